//! The verbs, one file each.

mod attach;
mod cancel;
mod config_check;
mod config_show;
mod doctor;
mod events;
mod info;
mod inspect;
mod kill;
mod logs;
mod metrics;
mod pause;
mod prune;
mod ps;
mod quota;
mod reload;
mod result;
mod rm;
mod run;
mod send;
mod submit;
mod targets;
mod top;
mod wait;

use crate::args::Verb;
use crate::args::verbs::ConfigVerb;
use crate::context::Context;
use crate::exit_status::ProcessEnd;
use crate::failure::Failure;

/// Performs a verb and returns how escherctl ends.
pub(crate) async fn perform(context: &Context, verb: Verb) -> Result<ProcessEnd, Failure> {
    let status = match verb {
        Verb::Run(args) if args.detach => {
            submit::submit(context, args.interactive, args.request).await
        }
        Verb::Run(args) => return run::run(context, args).await,
        Verb::Submit(args) => submit::submit(context, args.interactive, args.request).await,
        Verb::Wait(args) => wait::wait(context, &args.targets).await,
        Verb::Ps(args) => ps::ps(context, args).await,
        Verb::Inspect(args) => inspect::inspect(context, &args.targets).await,
        Verb::Result(args) => result::result(context, &args.target).await,
        Verb::Logs(args) => logs::logs(context, args).await,
        Verb::Attach(args) => return attach::attach(context, args).await,
        Verb::Send(args) => send::send(context, args).await,
        Verb::Cancel(args) => cancel::cancel(context, &args.targets).await,
        Verb::Kill(args) => {
            kill::kill(context, args.signal, args.tree, &args.targets.targets).await
        }
        Verb::Pause(args) => pause::pause(context, &args.targets).await,
        Verb::Resume(args) => pause::resume(context, &args.targets).await,
        Verb::Rm(args) => rm::rm(context, &args.targets).await,
        Verb::Prune(args) => prune::prune(context, args).await,
        Verb::Top(args) => return top::top(context, args).await,
        Verb::Events(args) => events::events(context, args.follow).await,
        Verb::Info => info::info(context).await,
        Verb::Quota(args) => quota::quota(context, args).await,
        Verb::Metrics => metrics::metrics(context).await,
        Verb::Config(args) => match args.verb {
            ConfigVerb::Show => config_show::show(context).await,
            ConfigVerb::Check(args) => config_check::check(context, &args),
        },
        Verb::Reload => reload::reload(context).await,
        Verb::Doctor => doctor::doctor(context).await,
    };
    status.map(ProcessEnd::from)
}
