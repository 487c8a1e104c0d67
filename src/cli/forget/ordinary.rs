//! The ordinary text of a redirection, and its covariance: read from a file, or measured.

use std::path::Path;
use std::sync::Arc;

use efface::data::{Encoder, RecordKind, Special, read_records};
use efface::kernels::loss::NO_TARGET;
use efface::model::Model;
use efface::model::batch::Tokens;
use efface::stream::Labels;
use efface::unlearn::redirect::{Covariance, Provenance, covariance};
use efface::{Error, Result};

use super::redirect::Plan;
use super::{Args, Data, Phases, Run};

/// Tokens of a piece of text that is read for its covariance.
const PIECE: usize = 256;
/// Tokens of text that are enough.
const ENOUGH: usize = 100_000;
/// The largest file of text, in bytes.
const LARGEST_TEXT: u64 = 256 << 20;

/// The text whose keys are left alone.
pub fn text(args: &Args, data: &Data, encoder: &dyn Encoder, model: &Model) -> Result<Vec<Arc<Tokens>>> {
    let Some(path) = &args.choosing.redirect.text else { return Ok(data.retained(false)) };
    let records = path.extension().is_some_and(|ending| ending == "jsonl" || ending == "json");
    let samples = match records {
        true => {
            let kinds = read_records(path)?;
            let texts = kinds.iter().filter_map(|record| match &record.kind {
                RecordKind::Text { text } => Some(text.as_str()),
                _ => None,
            });
            let texts: Vec<&str> = texts.collect();
            if texts.is_empty() {
                return Err(Error::file(path, "", "has no record with `text`"));
            }
            pieces(&texts, encoder, model)?
        }
        false => {
            let size = std::fs::metadata(path).map_err(|error| Error::reading(path, error))?.len();
            if size > LARGEST_TEXT {
                let problem = format!("the file has {size} bytes; a text has at most {LARGEST_TEXT}");
                return Err(Error::file(path, "", problem));
            }
            let bytes = std::fs::read(path).map_err(|error| Error::reading(path, error))?;
            let text = String::from_utf8(bytes).map_err(|_| Error::file(path, "", "the file is not UTF-8 text"))?;
            pieces(&text.lines().collect::<Vec<_>>(), encoder, model)?
        }
    };
    match samples.is_empty() {
        true => Err(Error::file(path, "", "the file has no text")),
        false => Ok(samples),
    }
}

/// The texts one after the other, cut into pieces, until there are enough.
fn pieces(texts: &[&str], encoder: &dyn Encoder, model: &Model) -> Result<Vec<Arc<Tokens>>> {
    let mut ids = Vec::new();
    for text in texts.iter().filter(|text| !text.trim().is_empty()) {
        ids.extend(encoder.encode(text, Special::Leading)?.ids);
        if ids.len() >= ENOUGH {
            break;
        }
    }
    let sample = |(number, ids): (usize, &[u32])| {
        Arc::new(Tokens { ids: ids.to_vec(), targets: vec![NO_TARGET; ids.len()], number: number as u32 })
    };
    Ok(ids.chunks(PIECE.min(model.config.context)).enumerate().map(sample).collect())
}

/// The text's covariances: from the file, if there is one, or measured.
pub fn covariances(run: &Run<'_>, plan: &Plan, phases: &mut Phases) -> Result<Vec<Covariance>> {
    let Run { args, input, device, .. } = *run;
    let of = Provenance { model_sha256: input.checkpoint.sha256().into(), data_sha256: covariance::digest(&plan.text) };
    let cached: Option<&Path> = args.choosing.redirect.covariance.as_deref();
    if let Some(path) = cached.filter(|path| path.exists()) {
        return phases
            .run(&args.common, "reading the covariance", |_| covariance::read(path, &input.model, &plan.sites, &of));
    }
    let pass = input.pass(device, &args.common, None, Labels::Data)?;
    let measured = phases.run(&args.common, "measuring the covariance", |tick| {
        covariance::measure(&pass, &plan.sites, &plan.text, tick)
    })?;
    if let Some(path) = cached {
        let tokens = plan.text.iter().map(|sample| sample.ids.len()).sum();
        covariance::write(path, &input.model, (&plan.sites, &measured), &of, tokens)?;
    }
    Ok(measured)
}
