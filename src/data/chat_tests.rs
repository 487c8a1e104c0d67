//! Templates that fail, run away, or call what is not there.

use super::*;

fn render(source: &str) -> Result<String, String> {
    let special = vec![("bos_token".to_string(), "<s>".to_string())];
    let messages = [Message::new("user", "Hi <b>"), Message::new("assistant", "Ho")];
    ChatTemplate::new(source, special, Clock::at(0))?.render(&messages, false)
}

#[test]
fn a_template_that_refuses_says_why() {
    assert!(render("{{ raise_exception('no such role') }}").unwrap_err().contains("no such role"));
    for source in ["{% for %}", "{{ messages[0].content.frobnicate() }}", "{{ strftime_now('%Q') }}", "{{ a.b.c }}"] {
        assert!(render(source).is_err(), "{source}");
    }
}

#[test]
fn a_template_that_runs_away_is_stopped() {
    let loops = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}";
    assert!(render(loops).unwrap_err().contains("fuel"), "{:?}", render(loops));
    assert!(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").is_err());
}

#[test]
fn marks_of_generation_change_nothing_but_open_a_scope() {
    let marked = "a\n  {% generation %}\n{% set x = 1 %}b{%- endgeneration -%} c{{ x }}{% raw %}{% y %}{% endraw %}";
    assert_eq!(render(marked).unwrap(), "a\nbc{% y %}");
    assert!(render("a {% generation").is_err());
    assert_eq!(without_generation_marks("{% if generation %}{%"), "{% if generation %}{%");
}

#[test]
fn keys_of_a_message_beside_role_and_content_reach_the_template() {
    let mut message = Message::new("user", "Hi");
    message.extra = serde_json::from_str(r#"{"name": "Ada", "n": [1, {"b": null, "a": 2.5}]}"#).unwrap();
    let template = ChatTemplate::new("{{ messages[0] | tojson }}", vec![], Clock::at(0)).unwrap();
    let expected = r#"{"role": "user", "content": "Hi", "name": "Ada", "n": [1, {"b": null, "a": 2.5}]}"#;
    assert_eq!(template.render(&[message], false).unwrap(), expected);
}
