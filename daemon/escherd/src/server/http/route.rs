//! Which resource a path names, and the methods of each.

use escher_protocol::{ApiError, ErrorCode};
use hyper::{Method, StatusCode};

use super::problem::Problem;
use super::query::percent_decode;

/// A resource. `String` is the reference of an execution, or the name of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Info,
    Settings,
    Doctor,
    Quotas,
    Metrics,
    Reload,
    Cleanup,
    Executions,
    Prune,
    Execution(String),
    Cancel(String),
    Signal(String),
    Pause(String),
    Resume(String),
    Result(String),
    Output(String),
    Stdin(String),
    Events,
    Problem(String),
}

const READ: &str = "GET, HEAD";
const POST: &str = "POST";

impl Resource {
    /// Returns the resource of a path.
    pub(super) fn find(path: &str) -> Result<Self, Box<Problem>> {
        let found = Self::parse(path);
        found.ok_or_else(|| {
            let message = format!("there is no resource {path:?}");
            let error = ApiError::new(ErrorCode::NOT_FOUND, message);
            let error = error.with_hint("docs/api.md lists the resources");
            Problem::new(StatusCode::NOT_FOUND, error)
        })
    }

    fn parse(path: &str) -> Option<Self> {
        if path == "/metrics" {
            return Some(Resource::Metrics);
        }
        let segments: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
        Some(match segments[..] {
            ["info"] => Resource::Info,
            ["settings"] => Resource::Settings,
            ["doctor"] => Resource::Doctor,
            ["quotas"] => Resource::Quotas,
            ["reload"] => Resource::Reload,
            ["cleanup"] => Resource::Cleanup,
            ["events"] => Resource::Events,
            ["executions"] => Resource::Executions,
            ["executions:prune"] => Resource::Prune,
            ["executions", reference] => Resource::Execution(decode(reference)?),
            ["executions", reference, name] => {
                let of_execution = match name {
                    "cancel" => Resource::Cancel,
                    "signal" => Resource::Signal,
                    "pause" => Resource::Pause,
                    "resume" => Resource::Resume,
                    "result" => Resource::Result,
                    "output" => Resource::Output,
                    "stdin" => Resource::Stdin,
                    _ => return None,
                };
                of_execution(decode(reference)?)
            }
            ["problems", name] => Resource::Problem(decode(name)?),
            _ => return None,
        })
    }

    /// Returns the methods of the resource.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Resource::Info
            | Resource::Settings
            | Resource::Doctor
            | Resource::Quotas
            | Resource::Metrics
            | Resource::Result(_)
            | Resource::Output(_)
            | Resource::Events
            | Resource::Problem(_) => READ,
            Resource::Reload
            | Resource::Cleanup
            | Resource::Prune
            | Resource::Cancel(_)
            | Resource::Signal(_)
            | Resource::Pause(_)
            | Resource::Resume(_) => POST,
            Resource::Executions => "GET, HEAD, POST",
            Resource::Execution(_) => "GET, HEAD, DELETE",
            Resource::Stdin(_) => "PUT",
        }
    }

    /// Returns the method by which the resource is asked; that of `HEAD` is `GET`, whose body is left out.
    pub(super) fn method(&self, method: &Method) -> Result<Method, Box<Problem>> {
        let allowed = self.methods();
        if !allowed.split(", ").any(|name| name == method.as_str()) {
            return Err(Problem::method_not_allowed(allowed));
        }
        Ok(if *method == Method::HEAD {
            Method::GET
        } else {
            method.clone()
        })
    }
}

/// Decodes a segment, which must not be empty.
fn decode(segment: &str) -> Option<String> {
    percent_decode(segment).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_resource() {
        for (path, expected) in [
            ("/v1/info", Some(Resource::Info)),
            ("/metrics", Some(Resource::Metrics)),
            ("/v1/executions", Some(Resource::Executions)),
            ("/v1/executions:prune", Some(Resource::Prune)),
            ("/v1/executions/17", Some(Resource::Execution("17".into()))),
            (
                "/v1/executions/alice%2Fnightly/output",
                Some(Resource::Output("alice/nightly".into())),
            ),
            ("/v1/executions/", None),
            ("/v1/executions//output", None),
            ("/v1/executions/1/2/3", None),
            ("/v1/executions/%zz", None),
            ("/v1/info/", None),
            ("/v2/info", None),
            ("/", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(Resource::find(path).ok(), expected, "{path}");
        }
    }

    #[test]
    fn only_the_methods_of_a_resource_are_allowed() {
        assert_eq!(Resource::Info.method(&Method::HEAD).ok(), Some(Method::GET));
        assert!(Resource::Info.method(&Method::POST).is_err());
        assert!(Resource::Executions.method(&Method::POST).is_ok());
        assert!(Resource::Stdin(String::new()).method(&Method::GET).is_err());
    }
}
