//! After redaction no text of the data is left in any form of the report.

use sha2::{Digest, Sha256};

use super::{markup, sample};
use crate::report::forget::{render_html, render_json, render_text};

const SECRETS: [&str; 5] = [sample::SECRET, "Where does Ilse", "14 Tarn Street", "Lenna", "Osterby"];

#[test]
fn no_secret_is_left_and_names_of_files_stay() {
    let mut report = sample::good(4);
    report.warnings.push(format!("the edited model still says \"{}\"", sample::SECRET));
    report.warnings.push("answered Lenna's question with 'Lenna'".into());
    report.command_line.push("Lenna".into());
    report.settings.insert("nested".into(), serde_json::json!({"list": ["Lenna", 3]}));
    let open = [render_html(&report), render_json(&report)].concat();
    assert!(SECRETS.iter().all(|s| open.contains(s)));

    report.redact();
    let page = render_html(&report);
    markup::check(&page).unwrap();
    for output in [page, render_json(&report), render_text(&report, None)] {
        for secret in SECRETS {
            assert!(!output.contains(secret), "{secret}");
        }
        assert!(output.contains("people_probes.jsonl"));
    }
    assert!(render_html(&report).contains("SHA-256 hashes"));
}

#[test]
fn the_hash_is_the_beginning_of_sha256_and_twice_is_once() {
    let mut report = sample::good(1);
    report.examples[0].after = String::new();
    report.redact();
    let hex: String = Sha256::digest(sample::SECRET.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(report.examples[0].before, format!("sha256:{}…", &hex[..8]));
    assert_eq!(report.examples[0].after, "", "an empty answer is no secret");
    assert_eq!(report.examples[1].before, report.examples[1].after);
    let once = render_json(&report);
    report.redact();
    assert_eq!(render_json(&report), once);
}

#[test]
fn a_short_answer_does_not_take_words_apart() {
    let mut report = sample::good(1);
    report.examples[0].gold = "a".into();
    report.warnings = vec!["selected a share of all weights".into()];
    report.redact();
    let warning = &report.warnings[0];
    assert!(warning.starts_with("selected sha256:") && warning.ends_with("share of all weights"), "{warning}");
}
