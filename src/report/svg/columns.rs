//! The columns of a map or matrix: how wide they can be, and their titles, slanted where they do not fit.

use super::{Anchor, Svg, name_room};

/// Equal columns from `left` on.
pub(super) struct Columns {
    left: f64,
    /// The width of each.
    pub(super) width: f64,
    /// The room that the longest title needs.
    room: f64,
    slanted: bool,
}

/// What a title at 45 degrees takes of its length across, and upwards.
const SLANT: f64 = 0.71;

impl Columns {
    /// As wide as `across` pixels from `left` allow, within bounds; slanted titles stay inside as well.
    pub(super) fn fit(names: &[String], left: f64, across: f64, bounds: (f64, f64)) -> Self {
        let count = names.len().max(1) as f64;
        let room = name_room(names.iter().map(String::as_str), 20.0, 200.0);
        let width = |across: f64| (across / count).clamp(bounds.0, bounds.1);
        let slanted = room > width(across);
        let overhang = if slanted { (room * SLANT - width(across) / 2.0).max(0.0) } else { 0.0 };
        Columns { left, width: width(across - overhang), room, slanted }
    }

    /// The height of the titles.
    pub(super) fn title_height(&self) -> f64 {
        if self.slanted { self.room * SLANT + 16.0 } else { 24.0 }
    }

    /// The right end of everything.
    pub(super) fn end(&self, count: usize) -> f64 {
        let overhang = if self.slanted { (self.room * SLANT - self.width / 2.0).max(0.0) } else { 0.0 };
        self.start(count) + overhang
    }

    /// Where column `index` starts.
    pub(super) fn start(&self, index: usize) -> f64 {
        self.left + index as f64 * self.width
    }

    /// Writes the titles above `bottom`.
    pub(super) fn draw_titles(&self, svg: &mut Svg, names: &[String], bottom: f64) {
        for (i, name) in names.iter().enumerate() {
            let x = self.start(i) + self.width / 2.0;
            if self.slanted {
                svg.slanted_name(x - 2.0, bottom - 8.0, "name", name, self.room + 4.0);
            } else {
                svg.text(x, bottom - 9.0, Anchor::Middle, "name", name);
            }
        }
    }
}
