//! `[server]`: what serves gRPC.

use std::time::Duration;

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    listen::{ListenAddress, refuse_plaintext},
    source::{Given, Origin, duration},
    table::Section,
};

/// The most calls at once that may be asked for: far beyond what one process serves, and well inside
/// what a semaphore counts.
const MOST_CALLS: i64 = 1_000_000;

/// What serves gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where to listen; one address at least, no two that collide.
    pub listen: Vec<ListenAddress>,
    /// How long calls in flight may take to finish after a signal to stop; 1 ms to 1 h.
    pub drain_timeout: Duration,
    /// How many calls may be in flight at once; 1 to 1,000,000.
    pub max_concurrent_calls: usize,
}

impl Server {
    pub(super) fn read(
        listen: Vec<String>,
        environment: &mut Environment,
        file: &mut Section<'_>,
        may_be_open: bool,
        faults: &mut Faults,
    ) -> Self {
        file.not_yet("tls", faults);

        let flag = (!listen.is_empty()).then(|| all_of(Origin::Flag("--listen"), listen));
        let variable = environment.text("COUNTERMAND_LISTEN", faults).map(|given| {
            let items = given.value.split(',').map(|item| item.trim().to_owned());
            all_of(given.origin.clone(), items)
        });
        let listen = flag
            .or(variable)
            .or(file.texts("listen", faults))
            .map_or_else(default_listen, |given| addresses(&given, file, may_be_open, faults));

        let drain_timeout = environment
            .text("COUNTERMAND_DRAIN_TIMEOUT", faults)
            .or(file.text("drain_timeout", faults))
            .and_then(|given| given.parse(faults, duration))
            .unwrap_or(Duration::from_secs(25));

        let max_concurrent_calls = environment
            .integer("COUNTERMAND_MAX_CONCURRENT_CALLS", faults)
            .or(file.integer("max_concurrent_calls", faults))
            .and_then(|given| given.parse(faults, |count: &i64| calls(*count)))
            .unwrap_or(4096);

        Self { listen, drain_timeout, max_concurrent_calls }
    }
}

fn default_listen() -> Vec<ListenAddress> {
    vec![ListenAddress::Tcp(([127, 0, 0, 1], 50051).into())]
}

fn all_of(origin: Origin, items: impl IntoIterator<Item = String>) -> Given<Vec<Given<String>>> {
    let value = items.into_iter().map(|value| Given { value, origin: origin.clone() }).collect();
    Given { value, origin }
}

/// Those of `given` that are right; the others' faults are noted.
fn addresses(
    given: &Given<Vec<Given<String>>>,
    file: &Section<'_>,
    may_be_open: bool,
    faults: &mut Faults,
) -> Vec<ListenAddress> {
    if given.value.is_empty() {
        faults.add(&given.origin, "the list is empty", r#"give one address at least, or leave it out"#);
    }
    let mut listen: Vec<ListenAddress> = Vec::with_capacity(given.value.len());
    for item in &given.value {
        let relative_to = match item.origin {
            Origin::Key { .. } => file.directory(),
            Origin::Flag(_) | Origin::Variable(_) => "".as_ref(),
        };
        let address = item.parse(faults, |text: &str| {
            let address = ListenAddress::parse(text, relative_to)?;
            if let ListenAddress::Tcp(address) = address {
                refuse_plaintext(address, may_be_open)?;
            }
            match listen.iter().find(|earlier| earlier.collides_with(&address)) {
                None => Ok(address),
                Some(_) => Err(Wrong::new(
                    format!("{text:?} collides with an earlier address of the list"),
                    "give each address once",
                )),
            }
        });
        listen.extend(address);
    }
    listen
}

fn calls(count: i64) -> Result<usize, Wrong> {
    let wrong =
        || Wrong::new(format!("{count} is out of range"), format!("give a number from 1 to {MOST_CALLS}"));
    if !(1..=MOST_CALLS).contains(&count) {
        return Err(wrong());
    }
    usize::try_from(count).map_err(|_| wrong())
}
