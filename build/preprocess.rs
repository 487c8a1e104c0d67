//! The WGSL preprocessor: imports, permutations, conditionals and named constants, and nothing else.
//!
//! Directives stand alone on a line:
//!
//! ```text
//! #import weight                 the text of shaders/shared/weight.wgsl, once
//! #require f16 subgroups         what a device must offer for this permutation: f16, subgroups, matrices8, matrices16
//! #permute ELEMENT f32 f16 bf16  this shader is built once for each value (in the main file only)
//! #define WIDTH rows             a constant for the rest of this file and of what it imports
//! #if ELEMENT == f32             keep the lines up to #elif, #else or #endif if the constant has this value
//! #elif ELEMENT == f16
//! #else
//! #endif
//! ```
//!
//! and `#{NAME}` anywhere in a line is replaced by the constant's value. Every line of the result remembers the
//! file and line it came from, so that errors name the place where they can be mended.

use std::collections::BTreeSet;

/// The values that a permuted constant takes, in the order of their declaration.
pub struct Permutation {
    pub name: String,
    pub values: Vec<String>,
}

/// Preprocessed WGSL and where each of its lines came from.
pub struct Expanded {
    pub text: String,
    /// For each line of `text`: file name and line number (from 1).
    pub origin: Vec<(String, usize)>,
    /// What a device must offer.
    pub features: BTreeSet<&'static str>,
}

/// What `#require` takes, and the extension that WGSL wants enabled for it.
const FEATURES: [(&str, &str); 4] = [
    ("f16", "enable f16;\n"),
    ("matrices16", "enable wgpu_cooperative_matrix;\n"),
    ("matrices8", "enable wgpu_cooperative_matrix;\n"),
    // naga knows subgroup operations without the directive, and does not know the directive.
    ("subgroups", ""),
];

/// An error with its place, as `file:line: problem`.
pub type Failure = String;

/// The permutations that `source` declares.
pub fn permutations(file: &str, source: &str) -> Result<Vec<Permutation>, Failure> {
    let mut found: Vec<Permutation> = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let Some(rest) = line.trim().strip_prefix("#permute") else { continue };
        let mut words = rest.split_whitespace().map(str::to_string);
        let name = words.next().ok_or_else(|| format!("{file}:{}: #permute without a name", index + 1))?;
        let values: Vec<String> = words.collect();
        if values.is_empty() || found.iter().any(|p| p.name == name) {
            return Err(format!("{file}:{}: #permute {name} has no values or is declared twice", index + 1));
        }
        found.push(Permutation { name, values });
    }
    Ok(found)
}

/// Every combination of the permutations' values, the last one varying fastest.
pub fn combinations(permutations: &[Permutation]) -> Vec<Vec<(String, String)>> {
    permutations.iter().fold(vec![Vec::new()], |combinations, permutation| {
        combinations
            .iter()
            .flat_map(|chosen| {
                permutation.values.iter().map(|value| {
                    let mut longer = chosen.clone();
                    longer.push((permutation.name.clone(), value.clone()));
                    longer
                })
            })
            .collect()
    })
}

/// Expands `source` with the given constants; `import` returns the text of a shared file.
pub fn expand(
    file: &str,
    source: &str,
    constants: &[(String, String)],
    import: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded, Failure> {
    let mut expander = Expander {
        constants,
        import,
        imported: BTreeSet::new(),
        features: BTreeSet::new(),
        defined: Vec::new(),
        text: String::new(),
        origin: Vec::new(),
    };
    expander.file(file, source)?;
    let Expander { mut text, mut origin, features, .. } = expander;
    // Extensions are enabled before everything else.
    for (_, enable) in FEATURES.iter().filter(|(name, enable)| features.contains(name) && !enable.is_empty()) {
        text.insert_str(0, enable);
        origin.insert(0, (file.to_string(), 1));
    }
    Ok(Expanded { text, origin, features })
}

struct Expander<'a> {
    constants: &'a [(String, String)],
    import: &'a dyn Fn(&str) -> Option<String>,
    imported: BTreeSet<String>,
    features: BTreeSet<&'static str>,
    defined: Vec<(String, String)>,
    text: String,
    origin: Vec<(String, usize)>,
}

/// One open `#if`: whether its current branch is kept, and whether a branch has been kept already.
struct Condition {
    kept: bool,
    satisfied: bool,
    line: usize,
}

impl Expander<'_> {
    fn file(&mut self, file: &str, source: &str) -> Result<(), Failure> {
        let mut open: Vec<Condition> = Vec::new();
        for (index, line) in source.lines().enumerate() {
            let number = index + 1;
            let fail = |problem: String| format!("{file}:{number}: {problem}");
            let trimmed = line.trim();
            let outer_kept = |open: &[Condition]| open.iter().all(|c| c.kept);
            let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
            match word {
                "#if" => {
                    let kept = self.holds(rest).map_err(fail)?;
                    open.push(Condition { kept, satisfied: kept, line: number });
                }
                "#elif" | "#else" => {
                    let holds = word == "#else" || self.holds(rest).map_err(fail)?;
                    let condition = open.last_mut().ok_or_else(|| fail(format!("{word} without #if")))?;
                    condition.kept = holds && !condition.satisfied;
                    condition.satisfied |= holds;
                }
                "#endif" => {
                    open.pop().ok_or_else(|| fail("#endif without #if".into()))?;
                }
                _ if !outer_kept(&open) => {}
                "#permute" => {}
                "#import" => {
                    if self.imported.insert(rest.trim().to_string()) {
                        let name = format!("shared/{}.wgsl", rest.trim());
                        let text = (self.import)(&name).ok_or_else(|| fail(format!("there is no shaders/{name}")))?;
                        self.file(&name, &text)?;
                    }
                }
                "#define" => {
                    let (name, value) = rest.split_once(' ').ok_or_else(|| fail("#define without a value".into()))?;
                    if self.constant(name).is_ok() {
                        return Err(fail(format!("{name} is defined twice")));
                    }
                    self.defined.push((name.to_string(), value.trim().to_string()));
                }
                "#require" => {
                    for wanted in rest.split_whitespace() {
                        let known = FEATURES.iter().find(|(name, _)| *name == wanted);
                        let (name, _) = known.ok_or_else(|| fail(format!("{wanted} is no feature")))?;
                        self.features.insert(name);
                    }
                }
                _ if word.starts_with('#') && !word.starts_with("#{") => {
                    return Err(fail(format!("unknown directive {word}")));
                }
                _ => {
                    let replaced = self.replace(line).map_err(fail)?;
                    self.text.push_str(&replaced);
                    self.text.push('\n');
                    self.origin.push((file.to_string(), number));
                }
            }
        }
        match open.last() {
            Some(condition) => Err(format!("{file}:{}: #if without #endif", condition.line)),
            None => Ok(()),
        }
    }

    fn constant(&self, name: &str) -> Result<&str, String> {
        self.constants
            .iter()
            .chain(&self.defined)
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| format!("{name} is not a constant of this shader"))
    }

    fn holds(&self, condition: &str) -> Result<bool, String> {
        match condition.split_whitespace().collect::<Vec<_>>()[..] {
            [name, "==", value] => Ok(self.constant(name)? == value),
            [name, "!=", value] => Ok(self.constant(name)? != value),
            _ => Err(format!("a condition is NAME == VALUE or NAME != VALUE, not {condition:?}")),
        }
    }

    fn replace(&self, line: &str) -> Result<String, String> {
        let mut result = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(start) = rest.find("#{") {
            let end = rest[start..].find('}').ok_or("#{ without }")? + start;
            result.push_str(&rest[..start]);
            result.push_str(self.constant(&rest[start + 2..end])?);
            rest = &rest[end + 1..];
        }
        result.push_str(rest);
        Ok(result)
    }
}
