//! A page that is one file: its style inside, no script, nothing fetched, readable in light, dark and on paper.
//!
//! Every method takes plain text and escapes it; only [`Svg`] brings markup, and that comes from our own drawing.

use super::escape::markup;
use super::svg::Svg;
use super::table::{Align, Row, Table};

/// How good the news is, shown by colour, sign and word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As wished.
    Good,
    /// In part, or not surely.
    Fair,
    /// Not as wished.
    Bad,
    /// Neither: a fact, or nothing is known.
    Plain,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Fair => "fair",
            Tone::Bad => "bad",
            Tone::Plain => "plain",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Tone::Good => "✓",
            Tone::Fair => "~",
            Tone::Bad => "✗",
            Tone::Plain => "",
        }
    }
}

/// A question, its answer in a word, the figure that carries it and a sentence or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// What a reader wants to know.
    pub question: String,
    /// The answer in a few words.
    pub answer: String,
    /// Whether it is good news.
    pub tone: Tone,
    /// The figure behind it; may be empty.
    pub figure: String,
    /// What the figure means.
    pub text: String,
}

/// A page under construction.
#[derive(Debug)]
pub struct Document {
    title: String,
    body: String,
    in_section: bool,
}

const STYLE: &str = include_str!("style.css");

impl Document {
    /// A page with a title (of the window) and a headline (the largest text), under a line that says what this is.
    pub fn new(title: &str, kind: &str, headline: &str, tone: Tone) -> Self {
        let body = format!(
            "<header>\n<p class=\"kind\">{}</p>\n<h1 class=\"{}\">{}</h1>\n",
            markup(kind),
            tone.class(),
            markup(headline)
        );
        Document { title: title.to_owned(), body, in_section: false }
    }

    /// A line of the summary under the headline.
    pub fn lead(&mut self, text: &str) {
        self.element("p", "lead", text);
    }

    /// Answers side by side.
    pub fn cards(&mut self, cards: &[Card]) {
        self.body.push_str("<div class=\"cards\">\n");
        for card in cards {
            self.body.push_str(&format!(
                "<div class=\"card {}\">\n<h2>{}</h2>\n<p class=\"answer\"><span class=\"sign\" aria-hidden=\"true\">{}</span>{}</p>\n",
                card.tone.class(),
                markup(&card.question),
                card.tone.sign(),
                markup(&card.answer)
            ));
            if !card.figure.is_empty() {
                self.element("p", "figure", &card.figure);
            }
            self.element("p", "text", &card.text);
            self.body.push_str("</div>\n");
        }
        self.body.push_str("</div>\n");
    }

    /// Ends the section before and starts one with this title.
    pub fn section(&mut self, title: &str) {
        self.end_section();
        self.body.push_str("<section>\n");
        self.in_section = true;
        self.element("h2", "", title);
    }

    /// A smaller heading inside a section.
    pub fn subsection(&mut self, title: &str) {
        self.element("h3", "", title);
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.element("p", "", text);
    }

    /// A paragraph that must not be overlooked.
    pub fn note(&mut self, tone: Tone, text: &str) {
        self.element("p", &format!("note {}", tone.class()), text);
    }

    /// A table, figures to the right.
    pub fn table(&mut self, table: &Table) {
        self.body.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
        for (title, align) in &table.columns {
            self.body.push_str(&format!("<th scope=\"col\"{}>{}</th>", align_class(*align), markup(title)));
        }
        self.body.push_str("</tr></thead>\n<tbody>\n");
        for row in &table.rows {
            self.body.push_str("<tr>");
            match row {
                Row::Cells(cells) => {
                    for (i, (_, align)) in table.columns.iter().enumerate() {
                        let cell = cells.get(i).map_or("", String::as_str);
                        self.body.push_str(&format!("<td{}>{}</td>", align_class(*align), markup(cell)));
                    }
                }
                Row::Heading(text) => {
                    let span = table.columns.len().max(1);
                    self.body.push_str(&format!(
                        "<th scope=\"rowgroup\" colspan=\"{span}\" class=\"group\">{}</th>",
                        markup(text)
                    ));
                }
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody>\n</table></div>\n");
    }

    /// A picture with a caption; on narrow screens it keeps a readable size and can be scrolled.
    pub fn figure(&mut self, svg: Svg, caption: &str) {
        self.body.push_str("<figure>\n<div class=\"scroll\">");
        self.body.push_str(&svg.finish());
        self.body.push_str("</div>\n");
        self.element("figcaption", "", caption);
        self.body.push_str("</figure>\n");
    }

    /// Names and values.
    pub fn settings(&mut self, pairs: &[(String, String)]) {
        self.body.push_str("<dl>\n");
        for (name, value) in pairs {
            let value = if value.is_empty() { "–" } else { value };
            self.body.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", markup(name), markup(value)));
        }
        self.body.push_str("</dl>\n");
    }

    /// A question with its answers, each under a small heading.
    pub fn example(&mut self, heading: &str, lines: &[(&str, &str)]) {
        self.body.push_str("<div class=\"example\">\n");
        self.element("p", "kind", heading);
        self.body.push_str("<dl>\n");
        for (name, text) in lines {
            self.body.push_str(&format!("<dt>{}</dt><dd class=\"quote\">{}</dd>\n", markup(name), markup(text)));
        }
        self.body.push_str("</dl>\n</div>\n");
    }

    /// The finished page, with a last line at its foot.
    pub fn finish(mut self, footer: &str) -> String {
        self.end_section();
        let title = markup(&self.title);
        let footer = markup(footer);
        let body = self.body;
        format!(
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
{body}</main>
<footer><p>{footer}</p></footer>
</body>
</html>
"#
        )
    }

    /// Sections follow the header, which the first of them closes.
    fn end_section(&mut self) {
        let closing = if self.in_section { "</section>\n" } else { "</header>\n" };
        self.body.push_str(closing);
    }

    fn element(&mut self, name: &str, class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        self.body.push_str(&format!("<{name}{class}>{}</{name}>\n", markup(text)));
    }
}

fn align_class(align: Align) -> &'static str {
    match align {
        Align::Left => "",
        Align::Right => " class=\"number\"",
    }
}
