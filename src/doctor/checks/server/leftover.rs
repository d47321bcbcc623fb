//! Files of domains that are on the server by now.

use std::path::Path;

use super::super::super::finding::Finding;
use super::super::super::scope::Scope;
use super::asked::{judged, named, settled, skipped};

pub(super) fn leftover(scope: &Scope) -> Finding {
    judged(|| {
        let server = named(scope)?;
        settled(scope)?;
        let home = scope.context.home().map_err(skipped)?;
        let left = server.domains.iter().map(|domain| home.database_path(domain.name()));
        let left: Vec<_> = left.filter(|path| path.symlink_metadata().is_ok()).collect();
        let Some(first) = left.first() else { return Ok(Finding::ok("none")) };
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let finding = Finding::warning(format!(
            "{} is not read: the configuration says that its domain is on {}",
            left.iter().map(|path| name(path)).collect::<Vec<_>>().join(", "),
            server.name
        ));
        let finding = finding.detail("path", first.display().to_string()).evidence(
            "what was written before the domain moved may be only there, or only on the server: no program looks at both",
        );
        Ok(finding.remedy(
            "look into it (sqlite3 -readonly), then move it out of the home; or set backend = \"sqlite\" again if it is the one that counts",
        ))
    })
}
