//! The server that a home's configuration names, and the one look at it that all its checks share.

use crate::config::backend::Backends;
use crate::domain::Domain;
use crate::error::Result;
use crate::home::Home;

#[cfg(not(feature = "postgres"))]
/// There is none in this program: what names one is an error.
pub(super) enum OnServer {}

#[cfg(not(feature = "postgres"))]
impl OnServer {
    pub(super) fn of(home: &Home, domains: &[Domain]) -> Option<Result<Self>> {
        Backends::of(home.path(), domains.iter().map(Domain::name)).err().map(Err)
    }
}

#[cfg(feature = "postgres")]
pub(super) use named::OnServer;

#[cfg(feature = "postgres")]
mod named {
    use std::sync::OnceLock;
    use std::time::Instant;

    use super::{Backends, Domain, Home, Result};
    use crate::postgres::Settings;
    use crate::postgres::look::facts::{self, Look};

    pub(in super::super) struct OnServer {
        pub(in super::super) settings: Settings,
        /// Where it stands which server it is.
        pub(in super::super) origin: &'static str,
        /// By what errors call it: without user and password.
        pub(in super::super) name: String,
        /// Nothing goes over a network.
        pub(in super::super) is_near: bool,
        pub(in super::super) domains: Vec<Domain>,
        look: OnceLock<Result<Look>>,
    }

    impl OnServer {
        /// `None` where everything is in files.
        pub(in super::super) fn of(home: &Home, domains: &[Domain]) -> Option<Result<Self>> {
            let read = || {
                let backends = Backends::of(home.path(), domains.iter().map(Domain::name))?;
                let Some(settings) = backends.server(home.path())? else { return Ok(None) };
                let (name, is_near) = facts::name(&settings)?;
                let there = domains.iter().filter(|domain| backends.is_on_server(domain.name())).cloned();
                let (domains, origin) = (there.collect(), backends.url_origin());
                Ok(Some(Self { settings, origin, name, is_near, domains, look: OnceLock::new() }))
            };
            read().transpose()
        }

        /// What was seen: by the first check that asks, for all of them.
        ///
        /// # Errors
        /// As [`facts::look`].
        pub(in super::super) fn look(&self, until: Instant) -> Result<&Look> {
            let looked = self.look.get_or_init(|| facts::look(&self.settings, &self.domains, until));
            looked.as_ref().map_err(Clone::clone)
        }
    }
}
