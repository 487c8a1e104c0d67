//! A bar on stderr for work that takes over a second.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use efface::report::format;

use super::common::Common;

/// Work below this is done before a bar could be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar that appears when it is worth it. Where stderr is no terminal, never.
#[derive(Debug)]
pub struct Progress {
    name: &'static str,
    quiet: bool,
    started: Instant,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    bar: Option<ProgressBar>,
    /// Where the counting began and when: an interrupted run goes on from the middle.
    first: Option<(u64, Instant)>,
}

impl Progress {
    /// Progress of the work `name`.
    pub fn new(common: &Common, name: &'static str) -> Self {
        Progress { name, quiet: common.quiet, started: Instant::now(), state: RefCell::default() }
    }

    /// `done` of `total` steps of about equal length are done.
    pub fn tick(&self, done: u64, total: u64) {
        let state = &mut *self.state.borrow_mut();
        let now = Instant::now();
        let (first, since) = *state.first.get_or_insert((done, now));
        if self.quiet || now - self.started < PATIENCE {
            return;
        }
        let bar = state.bar.get_or_insert_with(|| self.bar());
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(remaining(done - first.min(done), total - done.min(total), now - since));
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn bar(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:32} {percent:>3}% {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(self.name);
        bar
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.state.get_mut().bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// How long `left` steps will take if they take as long as those `done` since; nothing before there is something to go by.
fn remaining(done: u64, left: u64, elapsed: Duration) -> String {
    if done == 0 || left == 0 || done * 50 < left {
        return String::new();
    }
    let seconds = elapsed.as_secs_f64() / done as f64 * left as f64;
    format!("about {} left", format::seconds(seconds.ceil()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_goes_by_what_this_process_did() {
        assert_eq!(remaining(0, 100, Duration::from_secs(9)), "");
        assert_eq!(remaining(1, 100, Duration::from_secs(9)), "");
        assert!(remaining(50, 50, Duration::from_secs(9)).contains('9'));
    }
}
