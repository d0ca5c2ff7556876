//! What stands in the DNS.

use muster_wire::proto::v1::{RouteAnswer, ShowRouteResponse};

/// A route, server by server.
#[must_use]
pub fn shown(shown: &ShowRouteResponse) -> String {
    let site = if shown.site.is_empty() { "no writer is known" } else { shown.site.as_str() };
    let mut text = format!("{}: should point at {site}\n", shown.name);
    match shown.problem.as_str() {
        "" => text.push_str(&format!("  primary   {}\n", shown.standing)),
        problem => text.push_str(&format!("  primary   {problem}\n")),
    }
    for (kind, answers) in [("server", &shown.servers), ("resolver", &shown.resolvers)] {
        for RouteAnswer { server, said, points } in answers {
            let mark = if *points { "ok" } else { "! " };
            text.push_str(&format!("  {kind:<9} {mark} {server} {said}\n"));
        }
    }
    text
}

/// What was changed.
#[must_use]
pub fn changed(before: &str, standing: &str) -> String {
    if before == standing { format!("it stood so already: {standing}\n") } else { format!("before: {before}\nnow:    {standing}\n") }
}
