//! The controller: journals, decides, commands agents, answers operators.
