//! What is said of verbs that there are not.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs of other programs, and what does the same here.
const SYNONYMS: [(&str, &str); 46] = [
    ("abort", "cancel"),
    ("add", "submit"),
    ("batch", "submit"),
    ("cat", "logs"),
    ("check", "doctor"),
    ("clean", "prune"),
    ("cleanup", "prune"),
    ("clear", "prune"),
    ("continue", "resume"),
    ("del", "rm"),
    ("delete", "rm"),
    ("describe", "inspect"),
    ("end", "cancel"),
    ("enqueue", "submit"),
    ("erase", "rm"),
    ("exec", "run"),
    ("follow", "logs -f"),
    ("freeze", "pause"),
    ("gc", "prune"),
    ("get", "inspect"),
    ("health", "doctor"),
    ("history", "ps -a"),
    ("input", "send"),
    ("jobs", "ps"),
    ("join", "wait"),
    ("limits", "quota"),
    ("log", "logs"),
    ("monitor", "events -f"),
    ("output", "logs"),
    ("purge", "prune"),
    ("queue", "ps"),
    ("reattach", "attach"),
    ("remove", "rm"),
    ("settings", "config show"),
    ("signal", "kill"),
    ("spawn", "run"),
    ("start", "submit"),
    ("stats", "metrics"),
    ("stdin", "send"),
    ("suspend", "pause"),
    ("terminate", "cancel"),
    ("thaw", "resume"),
    ("unfreeze", "resume"),
    ("unpause", "resume"),
    ("validate", "config check"),
    ("watch", "events -f"),
];

/// Verbs that a misspelled word is never taken for: what they do cannot be undone.
const NEVER_GUESSED: [&str; 3] = ["kill", "prune", "rm"];

/// Returns the error with what was probably meant, if it is about an unknown verb.
pub(super) fn explained(error: Error) -> Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let similar = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(verbs)) => verbs.as_slice(),
        Some(ContextValue::String(verb)) => std::slice::from_ref(verb),
        _ => &[],
    };
    let synonym = SYNONYMS.iter().find(|synonym| synonym.0 == verb);
    // The most similar comes last.
    let similar = similar.last().map(String::as_str);
    let harmless = similar.filter(|verb| !NEVER_GUESSED.contains(verb));
    let question = match synonym.map(|synonym| synonym.1).or(harmless) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => String::new(),
    };
    let message = format!("no verb '{verb}'{question}\n\nFor the verbs, try 'escherctl --help'.\n");
    Error::raw(ErrorKind::InvalidSubcommand, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn said_of(verb: &str) -> String {
        let error = args::parse(["escherctl", verb, "1"]).unwrap_err();
        error.to_string()
    }

    #[test]
    fn verbs_of_other_programs_are_known() {
        for (verb, meant) in [("delete", "rm"), ("purge", "prune"), ("signal", "kill")] {
            let said = said_of(verb);
            let expected = format!("error: no verb '{verb}'; did you mean `{meant}`?\n");
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_undone_is_never_guessed() {
        for verb in ["prun", "pruen", "rmm", "kil", "killl"] {
            let said = said_of(verb);
            for harmful in NEVER_GUESSED {
                assert!(!said.contains(&format!("`{harmful}`")), "{said}");
            }
        }
        assert!(said_of("inspct").contains("did you mean `inspect`?"));
        assert!(said_of("xyzzy").starts_with("error: no verb 'xyzzy'\n"));
    }

    #[test]
    fn every_synonym_leads_to_a_verb_and_is_none() {
        let definition = args::definition();
        for (synonym, meant) in SYNONYMS {
            assert!(definition.find_subcommand(synonym).is_none(), "{synonym}");
            let verb = meant.split(' ').next().unwrap();
            assert!(definition.find_subcommand(verb).is_some(), "{meant}");
        }
        assert!(
            SYNONYMS.is_sorted(),
            "the table is in the order of the alphabet"
        );
    }
}
