//! The dependencies between modules: mentions, resolved to the modules that define what they name.

use std::collections::BTreeMap;

use crate::modules::Modules;

/// From a module to one that it uses, with the mentions that show it, each as
/// `daemon/escherd/src/reload.rs:14: config::settings::Settings`.
pub(crate) type Dependencies = BTreeMap<(Vec<String>, Vec<String>), Vec<String>>;

/// Longest chain of imports that is followed. A longer one is a cycle of imports.
const MAX_STEPS: usize = 20;

/// Resolves all mentions.
pub(crate) fn dependencies(modules: &Modules) -> Dependencies {
    let mut dependencies = Dependencies::new();
    for (path, module) in modules {
        for mention in &module.mentions {
            let Some((definer, item)) = resolve(modules, path, &mention.path, MAX_STEPS) else {
                continue;
            };
            if definer == *path {
                continue;
            }
            let full: Vec<&str> = definer.iter().map(String::as_str).chain([&*item]).collect();
            let shown = format!(
                "{}:{}: {}",
                module.file.display(),
                mention.line,
                full.join("::")
            );
            let mentions = dependencies.entry((path.clone(), definer)).or_default();
            mentions.push(shown);
        }
    }
    dependencies
}

/// Returns the module that defines what `mention` means in the module `at`, and the item's name.
/// `None` if that is another crate's, a local variable, or a module, which by itself is not used
/// yet.
fn resolve(
    modules: &Modules,
    at: &[String],
    mention: &[String],
    steps: usize,
) -> Option<(Vec<String>, String)> {
    let steps = steps.checked_sub(1)?;
    let (first, rest) = mention.split_first()?;
    match first.as_str() {
        "crate" => descend(modules, Vec::new(), rest, steps),
        "self" => descend(modules, at.to_vec(), rest, steps),
        "super" => {
            let parent = at.split_last()?.1.to_vec();
            match rest.first().map(String::as_str) {
                Some("super") => resolve(modules, &parent, rest, steps),
                _ => descend(modules, parent, rest, steps),
            }
        }
        _ => descend(modules, at.to_vec(), mention, steps),
    }
}

/// Follows `rest` from the module `at` on.
fn descend(
    modules: &Modules,
    at: Vec<String>,
    rest: &[String],
    steps: usize,
) -> Option<(Vec<String>, String)> {
    let module = modules.get(&at)?;
    let (name, rest) = rest.split_first()?;
    let mut child = at.clone();
    child.push(name.clone());
    if modules.contains_key(&child) && !rest.is_empty() {
        return descend(modules, child, rest, steps);
    }
    if module.items.contains(name) {
        return Some((at, name.clone()));
    }
    if let Some(path) = module.imports.get(name) {
        // `use bytes;` means a crate.
        let is_crate = path[..] == [name.as_str()];
        return if is_crate {
            None
        } else {
            resolve(modules, &at, &[path, rest].concat(), steps)
        };
    }
    let mut globs = module.globs.iter();
    globs.find_map(|glob| {
        let path = [glob, std::slice::from_ref(name), rest].concat();
        resolve(modules, &at, &path, steps)
    })
}
