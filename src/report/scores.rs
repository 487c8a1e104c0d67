//! The two headline scores and the forms behind them, as reports show them. `docs/evaluation.md` defines them.

use serde::{Deserialize, Serialize};

use super::forget::Role;
use super::format::{count, counted, percent, tick_percent};
use super::svg::{Axis, Bar, BarGroup, GroupedBars, Matrix};
use super::table::Table;

/// What became of the facts that a model knew, asked in one form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormScore {
    /// The form.
    pub form: String,
    /// What its probes stand for.
    pub role: Role,
    /// Whether neither this form nor these wordings occur in what was forgotten.
    pub held_out: bool,
    /// How many probes.
    pub probes: u64,
    /// How many of them the old model answers.
    pub known_probes: u64,
    /// How many facts have a probe that the old model answers.
    pub known: u64,
    /// How many of those the new model still answers in one of these probes.
    pub still: u64,
    /// The share of the known facts that is right: gone if to be forgotten, kept otherwise; none where nothing was known.
    pub right: Option<f64>,
    /// The 95 % interval of that share (Wilson).
    pub interval: [f64; 2],
}

/// The headline of an evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Form diversity, worst: the smallest share of forgotten facts that one held-out form can no longer recover.
    pub worst_form: Option<f64>,
    /// The form that it is.
    pub worst_form_name: Option<String>,
    /// Form diversity, mean over the held-out forms.
    pub mean_form: Option<f64>,
    /// How many held-out forms have facts that were known.
    pub forms: u64,
    /// The fewest probes that were known in one of them.
    pub fewest_known_probes: u64,
    /// The share of known facts, over all held-out forms, that are gone.
    pub forgotten: Option<f64>,
    /// The share of known facts to be kept that are kept.
    pub kept: Option<f64>,
    /// Accuracy: the mean of the two.
    pub accuracy: Option<f64>,
}

impl Scores {
    /// The headline of these forms. Forms in which nothing was known say nothing; what is to be forgotten counts in held-out
    /// forms only.
    pub fn of(forms: &[FormScore]) -> Self {
        let told: Vec<&FormScore> = forms.iter().filter(|form| form.known > 0).collect();
        let forget: Vec<&&FormScore> = told.iter().filter(|form| form.role == Role::Forget && form.held_out).collect();
        let keep = || told.iter().filter(|form| form.role != Role::Forget);
        let worst = forget.iter().min_by(|a, b| a.right.unwrap_or(1.0).total_cmp(&b.right.unwrap_or(1.0)));
        let mean = forget.iter().filter_map(|form| form.right).sum::<f64>() / forget.len() as f64;
        let share = |right: u64, known: u64| (known > 0).then(|| right as f64 / known as f64);
        let forgotten =
            share(forget.iter().map(|form| form.known - form.still).sum(), forget.iter().map(|form| form.known).sum());
        let kept = share(keep().map(|form| form.still).sum(), keep().map(|form| form.known).sum());
        Scores {
            worst_form: worst.and_then(|form| form.right),
            worst_form_name: worst.map(|form| form.form.clone()),
            mean_form: (!forget.is_empty()).then_some(mean),
            forms: forget.len() as u64,
            fewest_known_probes: forget.iter().map(|form| form.known_probes).min().unwrap_or(0),
            forgotten,
            kept,
            accuracy: forgotten.zip(kept).map(|(forgotten, kept)| (forgotten + kept) / 2.0),
        }
    }

    /// The headline in two lines; nothing where nothing was known.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let (Some(worst), Some(mean), Some(name)) = (self.worst_form, self.mean_form, &self.worst_form_name) {
            lines.push(format!(
                "form diversity  worst {} ({name}), mean {} of what was known is gone, over {} held-out forms with at least {} \
                 known probes each",
                percent(worst),
                percent(mean),
                self.forms,
                self.fewest_known_probes
            ));
        }
        let part = |share: Option<f64>| share.map_or("unknown".into(), percent);
        if self.forgotten.or(self.kept).is_some() {
            let accuracy = self.accuracy.map_or("unknown".into(), percent);
            let (gone, kept) = (part(self.forgotten), part(self.kept));
            lines.push(format!("accuracy        {accuracy} (forgotten facts gone {gone}, retained facts kept {kept})"));
        }
        lines
    }
}

/// Every form with its share and interval.
pub fn table(forms: &[FormScore]) -> Table {
    let titles =
        ["form", "facts to be", "held out", ">probes", ">known", ">facts known", ">still", ">right", ">95 % interval"];
    let mut table = Table::new(&titles);
    for form in forms {
        let [low, high] = form.interval;
        let interval = if form.known > 0 { format!("{} to {}", percent(low), percent(high)) } else { String::new() };
        table.row([
            form.form.clone(),
            if form.role == Role::Forget { "forgotten" } else { "kept" }.to_string(),
            if form.held_out { "yes" } else { "no" }.to_string(),
            count(form.probes),
            count(form.known_probes),
            count(form.known),
            count(form.still),
            form.right.map_or(String::new(), percent),
            interval,
        ]);
    }
    table
}

/// The right share of every form in which something was known, with its interval; none where nothing was.
pub fn picture(forms: &[FormScore]) -> Option<GroupedBars> {
    let heading = |role: Role| match role {
        Role::Forget => "To be forgotten: share that is gone",
        Role::Retain => "To be kept: share that is kept",
        Role::Other => "Everything else: share that is kept",
    };
    let mut previous = None;
    let mut groups = Vec::new();
    for form in forms {
        let Some(value) = form.right else { continue };
        let held_out = if form.held_out { "" } else { ", not held out" };
        groups.push(BarGroup {
            heading: (previous != Some(form.role)).then(|| heading(form.role).into()),
            label: form.form.clone(),
            note: format!("{} known{held_out}", counted(form.known, "fact")),
            bars: vec![Bar { value, interval: Some(form.interval) }],
        });
        previous = Some(form.role);
    }
    (!groups.is_empty()).then(|| GroupedBars {
        title: "Right outcomes in every form".into(),
        description: "For each form of question the share of the known facts that are gone, or kept, as wished.".into(),
        series: vec!["right".into()],
        axis: Axis::linear("share of the facts that were known", percent).with_ticks(tick_percent),
        limit: Some(1.0),
        groups,
    })
}

/// What was forgotten in one form (rows), asked in another (columns): the share of the facts that were known and still are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LeakMatrix {
    /// The forms that the facts were forgotten in, one for each edited model.
    pub forgotten_in: Vec<String>,
    /// The forms that they were asked in.
    pub asked_in: Vec<String>,
    /// One line of shares for each model; none where nothing was known.
    pub still: Vec<Vec<Option<f64>>>,
    /// How many facts were known, for each form that they were asked in.
    pub known: Vec<u64>,
}

impl LeakMatrix {
    /// The line of a single run.
    pub fn of_run(name: &str, scores: &[FormScore]) -> Self {
        let mut leak = LeakMatrix::default();
        leak.add(name, scores);
        leak
    }

    /// Adds the line of a model that forgot in `form`. Every line has the same forms in the same order.
    pub fn add(&mut self, form: &str, scores: &[FormScore]) {
        let scores: Vec<&FormScore> = scores.iter().filter(|score| score.role == Role::Forget).collect();
        if self.asked_in.is_empty() {
            self.asked_in = scores.iter().map(|score| score.form.clone()).collect();
            self.known = scores.iter().map(|score| score.known).collect();
        }
        self.forgotten_in.push(form.to_string());
        let still = |score: &&FormScore| (score.known > 0).then(|| score.still as f64 / score.known as f64);
        self.still.push(scores.iter().map(still).collect());
    }

    /// As a table for a terminal: a line for each form that is asked, a column for each model.
    pub fn table(&self) -> Table {
        let models: Vec<String> = self.forgotten_in.iter().map(|form| format!(">{form}")).collect();
        let titles: Vec<&str> =
            ["asked in", ">facts known"].into_iter().chain(models.iter().map(String::as_str)).collect();
        let mut table = Table::new(&titles);
        for (i, asked) in self.asked_in.iter().enumerate() {
            let shares = self.still.iter().map(|line| line.get(i).copied().flatten().map_or(String::new(), percent));
            table.row([asked.clone(), count(self.known[i])].into_iter().chain(shares));
        }
        table
    }

    /// As a picture.
    pub fn picture(&self) -> Matrix {
        Matrix {
            title: "What leaks into other forms".into(),
            description:
                "The share of known facts that is still answered, by the form forgotten in and the form asked in."
                    .into(),
            row_axis: "forgotten in".into(),
            column_axis: "asked in".into(),
            rows: self.forgotten_in.clone(),
            columns: self.asked_in.clone(),
            cells: self.still.clone(),
            format: percent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(role: Role, held_out: bool, known: u64, still: u64) -> FormScore {
        let right = if role == Role::Forget { known - still } else { still };
        let form = format!("{role:?} {known} {still}");
        let (probes, known_probes) = (2 * known, known + 1);
        let right = (known > 0).then(|| right as f64 / known as f64);
        FormScore { form, role, held_out, probes, known_probes, known, still, right, interval: [0.0, 1.0] }
    }

    #[test]
    fn the_headline_by_hand() {
        let forms = [
            form(Role::Forget, true, 10, 1),
            form(Role::Forget, true, 30, 15),
            form(Role::Forget, true, 0, 0),
            form(Role::Forget, false, 10, 10),
            form(Role::Retain, true, 50, 40),
            form(Role::Other, false, 50, 50),
        ];
        let scores = Scores::of(&forms);
        assert_eq!((scores.worst_form, scores.worst_form_name.as_deref()), (Some(0.5), Some("Forget 30 15")));
        assert!((scores.mean_form.unwrap() - 0.7).abs() < 1e-12);
        assert_eq!((scores.forms, scores.fewest_known_probes), (2, 11));
        // 24 of 40 gone, 90 of 100 kept.
        assert!((scores.forgotten.unwrap() - 0.6).abs() < 1e-12 && (scores.kept.unwrap() - 0.9).abs() < 1e-12);
        assert!((scores.accuracy.unwrap() - 0.75).abs() < 1e-12);
        let lines = scores.lines();
        assert!(lines[0].contains("worst 50.0% (Forget 30 15), mean 70.0%") && lines[0].contains("2 held-out forms"));
        assert!(lines[1].contains("75.0% (forgotten facts gone 60.0%, retained facts kept 90.0%)"), "{}", lines[1]);
        let mut leak = LeakMatrix::default();
        leak.add("statement", &forms);
        assert_eq!(leak.still, [vec![Some(0.1), Some(0.5), None, Some(1.0)]]);
        assert_eq!(leak.known, [10, 30, 0, 10]);
        assert!(
            leak.table().to_text(None).contains("Forget 30 15           30      50.0%"),
            "{}",
            leak.table().to_text(None)
        );
        assert!(leak.picture().draw().finish().contains("50.0%"));
        assert_eq!(table(&forms).rows.len(), 6);
    }

    #[test]
    fn without_knowledge_there_is_no_score() {
        let scores = Scores::of(&[form(Role::Forget, true, 0, 0)]);
        assert_eq!(scores, Scores::default());
        assert!(scores.lines().is_empty());
        let kept = Scores::of(&[form(Role::Retain, true, 4, 4)]);
        assert_eq!((kept.kept, kept.accuracy, kept.worst_form), (Some(1.0), None, None));
        assert_eq!(kept.lines().len(), 1);
    }
}
