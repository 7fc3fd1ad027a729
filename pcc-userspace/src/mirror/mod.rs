//! Running a RouterOS script: what its menus say, in terms of this host.

pub mod routes;
