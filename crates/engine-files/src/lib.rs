//! A folder of files behind the seven verbs.
