//! `muster check`: whether a component's recovery points are whole, as its agent reads them.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::CheckRequest;

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;

/// The arguments of `muster check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster check orders-db\n  muster check orders-db --read-data 1/1     # all of the data\n  muster check orders-db --read-data 3/7     # the third of seven parts, one a day of the week"
)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The instance whose agent does it. Default: any that is connected.
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,
    /// Read and decrypt the Nth of M parts of the data too. Default: structure only.
    #[arg(long, value_name = "N/M", value_parser = part)]
    read_data: Option<(u32, u32)>,
    #[command(flatten)]
    asking: Asking,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    // People count parts from 1, the wire from 0.
    let (read_data_part, read_data_of) = arguments.read_data.map_or((0, 0), |(part, of)| (part - 1, of));
    let request = CheckRequest {
        component: arguments.component,
        instance: arguments.instance.unwrap_or_default(),
        read_data_part,
        read_data_of,
        request_id: arguments.asking.request_id(),
    };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.repository();
            async move { client.check(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}

/// `N/M` with 1 ≤ N ≤ M.
///
/// # Errors
/// Where it is anything else.
pub fn part(text: &str) -> Result<(u32, u32), String> {
    let read = || {
        let (part, of) = text.split_once('/')?;
        let (part, of): (u32, u32) = (part.parse().ok()?, of.parse().ok()?);
        (part >= 1 && part <= of).then_some((part, of))
    };
    read().ok_or_else(|| "expected N/M with 1 <= N <= M, for example 1/1 for all or 3/7 for the third of seven parts".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_nth_of_m() {
        assert_eq!(part("1/1"), Ok((1, 1)));
        assert_eq!(part("3/7"), Ok((3, 7)));
        for text in ["", "0/7", "8/7", "1", "a/b", "1/0", "-1/3"] {
            assert!(part(text).is_err(), "{text}");
        }
    }
}
