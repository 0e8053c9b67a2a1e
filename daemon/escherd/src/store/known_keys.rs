//! Which keys may be in the database already.
//!
//! A key that was used before must not run a second time, and most keys are new. A Bloom filter over the keys of all
//! stored executions says of most new ones, without a read, that they are.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use escher_protocol::User;
use rusqlite::Connection;

use super::columns;
use super::error::DatabaseError;

/// Fewest keys that a filter is made for.
const MIN_CAPACITY: usize = 64 * 1024;

/// Bits for each key: with [`PROBES`], one new key in 400 seems to be known when the filter is full.
const BITS_PER_KEY: usize = 16;

/// Bits that are set for each key.
const PROBES: u32 = 4;

/// The filter. Until the writer has built it every key may be known.
#[derive(Debug)]
pub(super) struct KnownKeys {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until it is built, and once it is full.
    filter: Option<Filter>,
    /// The keys since the last filter was built, some of which the database may not have yet.
    recent: Vec<u64>,
}

#[derive(Debug)]
struct Filter {
    bits: Vec<u64>,
    /// How many more keys it is made for.
    room: usize,
}

impl KnownKeys {
    /// Creates the filter, which is to be built.
    pub(super) fn new() -> Self {
        KnownKeys {
            hasher: RandomState::new(),
            state: Mutex::default(),
        }
    }

    /// Adds a key. Returns `false` if it was certainly not known before.
    pub(super) fn add(&self, submitter: &User, key: &str) -> bool {
        let hash = self.hash(submitter.uid, columns::submitter_name(submitter), key);
        let mut state = self.lock();
        state.recent.push(hash);
        let Some(filter) = &mut state.filter else {
            return true;
        };
        let was_known = filter.add(hash);
        if filter.room == 0 {
            state.filter = None;
        }
        was_known
    }

    /// Builds the filter, if there is none, from the database and what was added meanwhile.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn build_if_missing(&self, connection: &Connection) -> Result<(), DatabaseError> {
        let added = {
            let state = self.lock();
            if state.filter.is_some() {
                return Ok(());
            }
            state.recent.len()
        };
        let mut stored = Vec::new();
        let sql = "SELECT submitter_uid, submitter_name, key FROM execution WHERE key IS NOT NULL";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (name, key) = (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str());
            if let (Ok(name), Ok(key)) = (name, key) {
                stored.push(self.hash(row.get(0)?, name, key));
            }
        }
        let mut state = self.lock();
        let mut filter = Filter::for_keys(stored.len() + state.recent.len());
        for hash in stored.into_iter().chain(state.recent.iter().copied()) {
            filter.add(hash);
        }
        state.filter = Some(filter);
        // What came before is in the database by the time of the next filter.
        state.recent.drain(..added);
        Ok(())
    }

    fn hash(&self, uid: u32, name: &str, key: &str) -> u64 {
        self.hasher.hash_one((uid, name, key))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filter {
    /// Creates an empty filter for `count` keys and as many again.
    fn for_keys(count: usize) -> Self {
        let capacity = (2 * count).max(MIN_CAPACITY);
        Filter {
            bits: vec![0; capacity * BITS_PER_KEY / 64],
            room: capacity,
        }
    }

    /// Adds a key, and returns whether it may have been there.
    fn add(&mut self, hash: u64) -> bool {
        self.room = self.room.saturating_sub(1);
        let (first, step) = (hash, hash.rotate_left(32) | 1);
        let mut was_there = true;
        for probe in 0..PROBES {
            let at = first.wrapping_add(u64::from(probe).wrapping_mul(step));
            let count = self.bits.len() as u64 * 64;
            let (word, bit) = (at % count / 64, at % 64);
            if let Some(word) = usize::try_from(word)
                .ok()
                .and_then(|at| self.bits.get_mut(at))
            {
                was_there &= *word & (1 << bit) != 0;
                *word |= 1 << bit;
            }
        }
        was_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(keys: &[(u32, &str)]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "CREATE TABLE execution (submitter_uid INTEGER, submitter_name TEXT, key TEXT)";
        connection.execute_batch(sql).unwrap();
        for (uid, key) in keys {
            let sql = "INSERT INTO execution VALUES (?1, '', ?2)";
            connection.execute(sql, (uid, key)).unwrap();
        }
        connection
    }

    fn user(uid: u32) -> User {
        User { uid, name: None }
    }

    #[test]
    fn every_key_may_be_known_until_the_filter_is_built() {
        let keys = KnownKeys::new();
        assert!(keys.add(&user(1), "early"));
        keys.build_if_missing(&database(&[(1, "stored")])).unwrap();
        assert!(keys.add(&user(1), "stored"));
        assert!(keys.add(&user(1), "early"));
        assert!(!keys.add(&user(1), "new"));
        assert!(keys.add(&user(1), "new"));
        assert!(!keys.add(&user(2), "stored"), "another user's");
    }

    #[test]
    fn a_full_filter_is_built_again_and_knows_what_was_added() {
        let keys = KnownKeys::new();
        let connection = database(&[]);
        keys.build_if_missing(&connection).unwrap();
        let name = |number: usize| format!("key {number}");
        let mistaken = (0..MIN_CAPACITY).filter(|number| keys.add(&user(1), &name(*number)));
        assert!(mistaken.count() < MIN_CAPACITY / 100);
        assert!(keys.add(&user(1), "while there is none"));
        keys.build_if_missing(&connection).unwrap();
        assert!((0..MIN_CAPACITY).all(|number| keys.add(&user(1), &name(number))));
        assert!(keys.add(&user(1), "while there is none"));
    }
}
