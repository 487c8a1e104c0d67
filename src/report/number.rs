//! Figures in JSON. JSON has no word for an infinite loss, and `null` would hide that the model was destroyed: figures
//! that are not finite are written as the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, and read back from them.
//!
//! Used as `#[serde(with = "number")]` and, for the shapes that hold figures, `number::list`, `number::option`,
//! `number::interval`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Copy)]
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_finite() => out.serialize_f64(v),
            v if v.is_nan() => out.serialize_str("NaN"),
            v if v > 0.0 => out.serialize_str("Infinity"),
            _ => out.serialize_str("-Infinity"),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Figure(f64),
            Word(String),
        }
        match Written::deserialize(input)? {
            Written::Figure(v) => Ok(Number(v)),
            Written::Word(w) => match w.as_str() {
                "NaN" => Ok(Number(f64::NAN)),
                "Infinity" => Ok(Number(f64::INFINITY)),
                "-Infinity" => Ok(Number(f64::NEG_INFINITY)),
                _ => Err(D::Error::custom("expected a number, \"NaN\", \"Infinity\" or \"-Infinity\"")),
            },
        }
    }
}

pub(super) fn serialize<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
    Number(*value).serialize(out)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    Ok(Number::deserialize(input)?.0)
}

/// For `Vec<f64>`.
pub(super) mod list {
    use super::*;

    pub(in crate::report) fn serialize<S: Serializer>(values: &[f64], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(values.iter().map(|&v| Number(v)))
    }

    pub(in crate::report) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<f64>, D::Error> {
        Ok(Vec::<Number>::deserialize(input)?.into_iter().map(|n| n.0).collect())
    }
}

/// For `Option<f64>`.
pub(super) mod option {
    use super::*;

    pub(in crate::report) fn serialize<S: Serializer>(value: &Option<f64>, out: S) -> Result<S::Ok, S::Error> {
        value.map(Number).serialize(out)
    }

    pub(in crate::report) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Number>::deserialize(input)?.map(|n| n.0))
    }
}

/// For `Option<[f64; 2]>`.
pub(super) mod interval {
    use super::*;

    pub(in crate::report) fn serialize<S: Serializer>(value: &Option<[f64; 2]>, out: S) -> Result<S::Ok, S::Error> {
        value.map(|[low, high]| [Number(low), Number(high)]).serialize(out)
    }

    pub(in crate::report) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<[f64; 2]>, D::Error> {
        Ok(Option::<[Number; 2]>::deserialize(input)?.map(|[low, high]| [low.0, high.0]))
    }
}
