//! The flag that says in what precision gradients are computed.

use clap::ValueEnum;

use efface::Result;
use efface::device::{Device, open_with};
use efface::kernels::precision::{Precision, Unit, open_mixed};
use efface::stream::{Pass, Unit as Gradient};
use efface::unlearn::accuracy::settle;

use super::common::Common;

/// In what precision products are computed.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Measuring")]
pub struct PrecisionArgs {
    /// full: single precision. mixed: factors of products in half precision, on the GPU's matrix units, after a test that they
    /// multiply rightly and a comparison with full precision on the first sample; else full, with a warning. emulated: the
    /// rounding of mixed on any device, as slow as full: to see what it does to a result.
    #[arg(long, value_enum, value_name = "PRECISION", default_value = "full")]
    pub precision: PrecisionName,
}

/// `--precision`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// Single precision.
    Full,
    /// Half precision on matrix units.
    Mixed,
    /// The same rounding, anywhere.
    Emulated,
}

impl PrecisionArgs {
    /// Whether it is another precision than where none is named.
    pub fn is_given(&self) -> bool {
        self.precision != PrecisionName::Full
    }

    /// Opens the device that was chosen, for this precision; says so where the device does not have it.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be opened.
    pub fn open_device(&self, common: &Common) -> Result<Device> {
        let device = match self.precision {
            PrecisionName::Full => return common.open_device(),
            PrecisionName::Emulated => {
                open_with(common.device, &common.options())?.with_precision(Precision::Mixed(Unit::Emulated))
            }
            PrecisionName::Mixed => {
                let (device, refusal) = open_mixed(common.device, &common.options())?;
                if let Some(reason) = refusal {
                    common.note(&format!("full precision is used: {reason}"));
                }
                device
            }
        };
        common.opened(&device);
        Ok(device)
    }

    /// The pass to use for `units`: in full precision, with a note, where mixed precision is too far off.
    ///
    /// # Errors
    /// When a pass fails.
    pub fn settle(&self, common: &Common, pass: Pass, units: &[Gradient]) -> Result<Pass> {
        let (pass, refusal) = settle(pass, units)?;
        if let Some(reason) = refusal {
            common.note(&format!("full precision is used: {reason}"));
        }
        Ok(pass)
    }
}
