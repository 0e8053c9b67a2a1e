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
mod selected;
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

/// Performs a verb and returns how escherctl ends. Each verb has the memory that it needs, not that of the largest.
pub(crate) async fn perform(context: &Context, verb: Verb) -> Result<ProcessEnd, Failure> {
    let status = match verb {
        Verb::Run(args) if args.detach => {
            Box::pin(submit::submit(context, args.interactive, args.request)).await
        }
        Verb::Run(args) => return Box::pin(run::run(context, args)).await,
        Verb::Submit(args) => {
            Box::pin(submit::submit(context, args.interactive, args.request)).await
        }
        Verb::Wait(args) => Box::pin(wait::wait(context, &args)).await,
        Verb::Ps(args) => Box::pin(ps::ps(context, args)).await,
        Verb::Inspect(args) => Box::pin(inspect::inspect(context, &args.targets)).await,
        Verb::Result(args) => Box::pin(result::result(context, &args.target)).await,
        Verb::Logs(args) => return Box::pin(logs::logs(context, args)).await,
        Verb::Attach(args) => return Box::pin(attach::attach(context, args)).await,
        Verb::Send(args) => Box::pin(send::send(context, args)).await,
        Verb::Cancel(args) => Box::pin(cancel::cancel(context, &args)).await,
        Verb::Kill(args) => Box::pin(kill::kill(context, &args)).await,
        Verb::Pause(args) => Box::pin(pause::pause(context, &args)).await,
        Verb::Resume(args) => Box::pin(pause::resume(context, &args)).await,
        Verb::Rm(args) => Box::pin(rm::rm(context, &args)).await,
        Verb::Prune(args) => Box::pin(prune::prune(context, &args)).await,
        Verb::Top(args) => return Box::pin(top::top(context, args)).await,
        Verb::Events(args) => Box::pin(events::events(context, args)).await,
        Verb::Info => Box::pin(info::info(context)).await,
        Verb::Quota(args) => Box::pin(quota::quota(context, args)).await,
        Verb::Metrics => Box::pin(metrics::metrics(context)).await,
        Verb::Config(args) => match args.verb {
            ConfigVerb::Show => Box::pin(config_show::show(context)).await,
            ConfigVerb::Check(args) => config_check::check(context, &args),
        },
        Verb::Reload => Box::pin(reload::reload(context)).await,
        Verb::Doctor => Box::pin(doctor::doctor(context)).await,
    };
    status.map(ProcessEnd::from)
}
