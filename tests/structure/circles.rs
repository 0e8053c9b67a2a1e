//! Circles among modules that are side by side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::dependencies::Dependencies;

/// Modules side by side, each of which uses the next, and the last the first.
#[derive(Debug)]
pub(crate) struct Circle {
    /// A shortest way around.
    pub(crate) arrows: Vec<Arrow>,
    /// All modules that can be reached from these, and lead back to them.
    pub(crate) members: BTreeSet<Vec<String>>,
}

/// One module uses another one.
#[derive(Debug)]
pub(crate) struct Arrow {
    pub(crate) from: Vec<String>,
    pub(crate) to: Vec<String>,
    pub(crate) mentions: Vec<String>,
}

type Arrows = BTreeMap<Vec<String>, BTreeMap<Vec<String>, Vec<String>>>;

/// Finds the circles. No module is in two of them.
pub(crate) fn find(dependencies: &Dependencies) -> Vec<Circle> {
    let mut arrows = Arrows::new();
    for ((from, to), mentions) in dependencies {
        if let Some((from, to)) = side_by_side(from, to) {
            let known = arrows.entry(from).or_default().entry(to).or_default();
            known.extend(mentions.iter().cloned());
        }
    }
    let mut circles = Vec::new();
    let mut done = BTreeSet::new();
    for start in arrows.keys() {
        if done.contains(start) {
            continue;
        }
        let reached = reached_from(&arrows, start);
        let members: BTreeSet<_> = reached
            .into_iter()
            .filter(|module| reached_from(&arrows, module).contains(start))
            .collect();
        if members.is_empty() {
            continue;
        }
        done.extend(members.iter().cloned());
        let shortest = members
            .iter()
            .filter_map(|member| shortest(&arrows, member));
        if let Some(arrows) = shortest.min_by_key(Vec::len) {
            circles.push(Circle { arrows, members });
        }
    }
    circles
}

/// Returns the modules around `from` and `to`, or these themselves, that are side by side. `None`
/// if one is inside the other.
fn side_by_side(from: &[String], to: &[String]) -> Option<(Vec<String>, Vec<String>)> {
    let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let from = from.get(..=common)?;
    let to = to.get(..=common)?;
    Some((from.to_vec(), to.to_vec()))
}

/// Returns all modules that `start` uses, directly or not.
fn reached_from(arrows: &Arrows, start: &[String]) -> BTreeSet<Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut queue = vec![start.to_vec()];
    while let Some(module) = queue.pop() {
        for next in arrows.get(&module).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next.clone()) {
                queue.push(next.clone());
            }
        }
    }
    reached
}

/// Returns a shortest way from `start` back to it.
fn shortest(arrows: &Arrows, start: &[String]) -> Option<Vec<Arrow>> {
    let mut before: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    let mut queue = VecDeque::from([start.to_vec()]);
    while let Some(module) = queue.pop_front() {
        for next in arrows.get(&module).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(next) {
                before.insert(next.clone(), module.clone());
                queue.push_back(next.clone());
            }
        }
        if before.contains_key(start) {
            break;
        }
    }
    let mut way = Vec::new();
    let mut to = start.to_vec();
    loop {
        let from = before.get(&to)?.clone();
        let mentions = arrows[&from][&to].clone();
        way.push(Arrow {
            from: from.clone(),
            to,
            mentions,
        });
        if from == start {
            way.reverse();
            return Some(way);
        }
        to = from;
    }
}
