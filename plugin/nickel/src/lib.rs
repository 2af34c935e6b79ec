//! workspace.ncl to typed model: the contract library and its evaluation.
