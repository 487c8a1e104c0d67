//! How the importances of several forms become one: what the mask holds is then what the forms agree on.

use std::fmt;
use std::str::FromStr;

use crate::kernels::update::combine::How;
use crate::{Error, Result};

/// The consensus of forms. With F_f^k the importance for form k of what is to be forgotten, F_f is
///
/// - `mean`: (1/K) Σ_k F_f^k, every form alike however many samples it has;
/// - `geomean`: (Π_k F_f^k)^(1/K), which a form that does not need the weight takes to 0;
/// - `min`: the smallest, so that F_f / F exceeds a threshold where it does for every form;
/// - `quorum:K`: the K-th largest, so that it does where it does for K forms at least.
///
/// The last two hold for ratios just as for importances, since all forms are compared with the same F_r.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// The mean over forms.
    Mean,
    /// The geometric mean over forms.
    Geomean,
    /// What the form needs that needs it least.
    Min,
    /// What so many forms need.
    Quorum(usize),
}

impl Combine {
    /// What the kernel does for so many forms.
    ///
    /// # Errors
    /// When a quorum is larger than that.
    pub fn how(self, forms: usize) -> Result<How> {
        match self {
            Combine::Mean => Ok(How::Mean),
            Combine::Geomean => Ok(How::Geometric),
            Combine::Min => Ok(How::Ranked(forms)),
            Combine::Quorum(quorum) if (1..=forms).contains(&quorum) => Ok(How::Ranked(quorum)),
            Combine::Quorum(quorum) => {
                Err(Error::argument(format!("a quorum of {quorum} of {forms} forms is none; right are 1 to {forms}")))
            }
        }
    }

    /// The same of whole groups' importances; NaN where one of them is no importance.
    pub fn of(self, forms: &[f64]) -> f64 {
        if forms.iter().any(|value| !(value.is_finite() && *value >= 0.0)) {
            return f64::NAN;
        }
        let count = forms.len() as f64;
        let mut sorted = forms.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        match self {
            Combine::Mean => forms.iter().sum::<f64>() / count,
            Combine::Geomean if sorted.last() == Some(&0.0) => 0.0,
            Combine::Geomean => (forms.iter().map(|value| value.ln()).sum::<f64>() / count).exp(),
            Combine::Min => sorted.last().copied().unwrap_or(f64::NAN),
            Combine::Quorum(quorum) => sorted.get(quorum.wrapping_sub(1)).copied().unwrap_or(f64::NAN),
        }
    }
}

impl fmt::Display for Combine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Combine::Mean => f.write_str("mean"),
            Combine::Geomean => f.write_str("geomean"),
            Combine::Min => f.write_str("min"),
            Combine::Quorum(quorum) => write!(f, "quorum:{quorum}"),
        }
    }
}

impl FromStr for Combine {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match (text, text.strip_prefix("quorum:").map(str::parse)) {
            ("mean", _) => Ok(Combine::Mean),
            ("geomean", _) => Ok(Combine::Geomean),
            ("min", _) => Ok(Combine::Min),
            (_, Some(Ok(quorum))) if quorum > 0 => Ok(Combine::Quorum(quorum)),
            _ => Err(Error::argument(format!(
                "{text:?} combines no forms; right are mean, geomean, min and quorum:K with K from 1 up"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_figures() {
        for name in ["mean", "geomean", "min", "quorum:3"] {
            assert_eq!(name.parse::<Combine>().unwrap().to_string(), name);
        }
        for wrong in ["", "max", "quorum", "quorum:", "quorum:0", "quorum:-1", "quorum:x"] {
            assert!(wrong.parse::<Combine>().unwrap_err().is_input(), "{wrong}");
        }
        let forms = [4.0, 1.0, 16.0];
        assert_eq!(Combine::Mean.of(&forms), 7.0);
        assert!((Combine::Geomean.of(&forms) - 4.0).abs() < 1e-12);
        assert_eq!([1, 2, 3].map(|k| Combine::Quorum(k).of(&forms)), [16.0, 4.0, 1.0]);
        assert_eq!((Combine::Min.of(&forms), Combine::Geomean.of(&[2.0, 0.0])), (1.0, 0.0));
        assert!(Combine::Min.of(&[1.0, -1.0]).is_nan() && Combine::Quorum(4).of(&forms).is_nan());
        assert!(Combine::Quorum(4).how(3).unwrap_err().is_input());
        assert_eq!(Combine::Min.how(3).unwrap(), How::Ranked(3));
    }
}
