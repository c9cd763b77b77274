//! Loads all prompts at start, from the configured folder or from those built into the binary:
//! one folder per language, one WAV per prompt id, and `grammar.toml`.
//!
//! The only reader of WAV files. Start fails with the name of what is wrong or missing; a call
//! never meets a file.

mod wav;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

pub use wav::WavFault;

use crate::call::speech::{Grammar, GrammarFault};
use crate::media::bank::{Clip, PromptBank, PromptBankBuilder};
use crate::media::{PromptId, PromptSetId};

/// Everything that calls can say.
#[derive(Debug)]
pub struct Prompts {
    pub bank: PromptBank,
    /// How each language speaks numbers.
    pub grammars: BTreeMap<PromptSetId, Grammar>,
    /// The languages by name, for the store's directory.
    pub sets: BTreeMap<String, PromptSetId>,
    pub count: usize,
}

/// Why the prompts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptFault {
    #[error("prompts.dir: cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{place}: {what} {fault}")]
    Wav {
        place: String,
        what: String,
        fault: WavFault,
    },
    #[error("{place}/{language}/grammar.toml: {fault}")]
    Grammar {
        place: String,
        language: String,
        fault: GrammarFault,
    },
    #[error("{place}/{language}: grammar.toml is missing; copy it from the built-in prompts")]
    NoGrammar { place: String, language: String },
    #[error("{place}/{language}: {} missing: {}", plural(missing.len()), list(missing))]
    Missing {
        place: String,
        language: String,
        missing: Vec<PromptId>,
    },
    #[error("{place}: the language {language} is missing (a folder with its WAV files and grammar.toml)")]
    NoLanguage { place: String, language: &'static str },
    #[error("{place}: {count} files, at most {MOST_FILES}")]
    TooMany { place: String, count: usize },
}

fn plural(count: usize) -> String {
    if count == 1 {
        "one prompt is".to_owned()
    } else {
        format!("{count} prompts are")
    }
}

fn list(missing: &[PromptId]) -> String {
    let mut names: Vec<String> = missing
        .iter()
        .take(NAMED)
        .map(|id| format!("{}.wav", id.as_str()))
        .collect();
    if missing.len() > NAMED {
        names.push("...".to_owned());
    }
    names.join(", ")
}

/// Loads every language.
///
/// # Errors
/// The first file that is wrong, or the prompts that are missing, by name.
pub fn load(dir: Option<&Path>) -> Result<Prompts, PromptFault> {
    let source = Source::of(dir)?;
    let mut builder = PromptBank::builder();
    let mut grammars = BTreeMap::new();
    let mut sets = BTreeMap::new();
    let mut count = 0;
    for (set, language) in LANGUAGES {
        if !source.languages().contains(language) {
            return Err(PromptFault::NoLanguage {
                place: source.place(),
                language,
            });
        }
        builder.name_set(set, language);
        let grammar = source.grammar(language)?;
        count += load_language(&source, language, set, &grammar, &mut builder)?;
        grammars.insert(set, grammar);
        sets.insert(language.to_owned(), set);
    }
    Ok(Prompts {
        bank: builder.build(),
        grammars,
        sets,
        count,
    })
}

fn load_language(
    source: &Source,
    language: &str,
    set: PromptSetId,
    grammar: &Grammar,
    builder: &mut PromptBankBuilder,
) -> Result<usize, PromptFault> {
    let mut loaded = BTreeSet::new();
    for name in source.files(language) {
        let Some(id) = name.strip_suffix(".wav") else {
            continue;
        };
        let id = PromptId::named(id.to_owned());
        match source.read(&format!("{language}/{name}"))? {
            Cow::Borrowed(encoded) => {
                builder.add_encoded(set, id.clone(), Clip::BuiltIn(encoded));
            }
            Cow::Owned(bytes) => {
                let samples = wav::read(&bytes).map_err(|fault| PromptFault::Wav {
                    place: source.place(),
                    what: format!("{language}/{name}"),
                    fault,
                })?;
                builder.add(set, id.clone(), &samples);
            }
        }
        loaded.insert(id);
    }
    let missing: Vec<PromptId> = grammar
        .required()
        .into_iter()
        .filter(|id| !loaded.contains(id))
        .collect();
    if missing.is_empty() {
        return Ok(loaded.len());
    }
    Err(PromptFault::Missing {
        place: source.place(),
        language: language.to_owned(),
        missing,
    })
}

/// Where prompt files come from; paths are `language/name`.
struct Source {
    /// `None`: the pack in the binary, whose WAVs are A-law bytes already.
    dir: Option<PathBuf>,
    /// Content for those of the pack, empty for those of a folder.
    files: BTreeMap<String, &'static [u8]>,
}

impl Source {
    fn of(dir: Option<&Path>) -> Result<Source, PromptFault> {
        let files = match dir {
            Some(dir) => list_folders(dir)?,
            None => unpack(PACK),
        };
        let source = Source {
            dir: dir.map(Path::to_owned),
            files,
        };
        let count = source.files.len();
        if count > MOST_FILES {
            return Err(PromptFault::TooMany {
                place: source.place(),
                count,
            });
        }
        Ok(source)
    }

    fn place(&self) -> String {
        match &self.dir {
            Some(dir) => dir.display().to_string(),
            None => "built-in prompts".to_owned(),
        }
    }

    fn languages(&self) -> BTreeSet<&str> {
        self.files
            .keys()
            .filter_map(|file| file.split_once('/'))
            .map(|(language, _)| language)
            .collect()
    }

    fn files(&self, language: &str) -> impl Iterator<Item = &str> {
        self.files
            .keys()
            .filter_map(|file| file.split_once('/'))
            .filter_map(move |(folder, name)| (folder == language).then_some(name))
    }

    fn grammar(&self, language: &str) -> Result<Grammar, PromptFault> {
        if !self.files(language).any(|name| name == GRAMMAR) {
            return Err(PromptFault::NoGrammar {
                place: self.place(),
                language: language.to_owned(),
            });
        }
        let bytes = self.read(&format!("{language}/{GRAMMAR}"))?;
        Grammar::parse(&String::from_utf8_lossy(&bytes)).map_err(|fault| PromptFault::Grammar {
            place: self.place(),
            language: language.to_owned(),
            fault,
        })
    }

    /// Borrowed from the pack, or the bytes of a file.
    fn read(&self, file: &str) -> Result<Cow<'static, [u8]>, PromptFault> {
        let Some(dir) = &self.dir else {
            return Ok(Cow::Borrowed(self.files.get(file).copied().unwrap_or_default()));
        };
        let path = dir.join(file);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(source) => Err(PromptFault::Unreadable { path, source }),
        }
    }
}

fn list_folders(dir: &Path) -> Result<BTreeMap<String, &'static [u8]>, PromptFault> {
    let names_in = |path: &Path| -> Result<Vec<String>, PromptFault> {
        let unreadable = |source| PromptFault::Unreadable {
            path: path.to_owned(),
            source,
        };
        let entries = std::fs::read_dir(path).map_err(unreadable)?;
        entries
            .map(|entry| {
                Ok(entry
                    .map_err(unreadable)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned())
            })
            .collect()
    };
    let mut files = BTreeMap::new();
    for language in names_in(dir)? {
        let folder = dir.join(&language);
        if folder.is_dir() {
            files.extend(
                names_in(&folder)?
                    .into_iter()
                    .map(|name| (format!("{language}/{name}"), &[][..])),
            );
        }
    }
    Ok(files)
}

/// Reads what `build.rs` has packed: name and content in turn, each behind its length.
fn unpack(pack: &'static [u8]) -> BTreeMap<String, &'static [u8]> {
    let mut files = BTreeMap::new();
    let mut rest = pack;
    while let Some((name, after)) = part(rest)
        && let Some((content, after)) = part(after)
    {
        files.insert(String::from_utf8_lossy(name).into_owned(), content);
        rest = after;
    }
    files
}

fn part(pack: &'static [u8]) -> Option<(&'static [u8], &'static [u8])> {
    let (length, rest) = pack.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// The prompts built into the binary.
static PACK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/prompts.pack"));

/// The languages that every installation speaks.
pub const LANGUAGES: [(PromptSetId, &str); 2] = [(PromptSetId(0), "de"), (PromptSetId(1), "en")];
const GRAMMAR: &str = "grammar.toml";
/// Files in all languages together.
const MOST_FILES: usize = 8_000;
/// Missing prompts that a message names.
const NAMED: usize = 10;

#[cfg(test)]
mod tests;
