//! The examples at the beginning of help texts, at most 80 columns wide.

pub(super) const ESCHERCTL: &str = "\
Examples:
  escherctl run make -j4                 run a command, exit with its status
  escherctl submit ./backup.sh           do not wait; print the id
  escherctl ps -a                        list all executions
  escherctl logs -f 17                   follow the output of execution 17
  escherctl cancel 17                    end execution 17";

pub(super) const RUN: &str = "\
Examples:
  escherctl run make -j4
  escherctl run --timeout 5m -w /srv/app ./deploy --now
  escherctl run -e RUST_LOG=debug --name nightly cargo test
  escherctl run -p MemoryMax=2G -p CPUQuota=150% ./import
  escherctl run --shell 'sort < in | uniq -c > out'
  tar c . | escherctl run -i tar t";

pub(super) const SUBMIT: &str = "\
Examples:
  id=$(escherctl submit make -j4); escherctl wait \"$id\"
  escherctl submit --key deploy-42 ./deploy      (runs once, even if repeated)";

pub(super) const WAIT: &str = "\
Examples:
  escherctl wait 17; echo $?             the exit status of the command
  escherctl wait 17 18 19                0 only if all completed
  escherctl wait --any 17 18             until one of them has finished
  escherctl wait --timeout 5m 17";

pub(super) const PS: &str = "\
Examples:
  escherctl ps                           pending and running executions
  escherctl ps -a --filter status=failed --filter label.team=web
  escherctl ps -a --filter 'exit!=0' --filter 'command=*backup*'
  escherctl ps -n 5                      the last 5, finished or not
  escherctl ps -a --sort -time --columns number,time,command
  escherctl ps -a --since 2h             submitted within the last 2 hours
  escherctl ps -a --since 2026-03-01 --until '2026-03-02 12:00' --limit 0";

pub(super) const CANCEL: &str = "\
Examples:
  escherctl cancel 17
  escherctl cancel --signal INT 17       SIGINT first, then SIGKILL
  escherctl cancel --now --filter label.team=web";

pub(super) const TOP: &str = "\
Examples:
  escherctl top
  escherctl top --interval 500ms
  escherctl top --once                   one table
  escherctl top --json | jq .usage_now.memory_bytes";

pub(super) const RM: &str = "\
Examples:
  escherctl rm 17
  escherctl rm 17 18 nightly
  escherctl rm --filter name=test-*";

pub(super) const PRUNE: &str = "\
Examples:
  escherctl prune --until 30d            remove what is older than 30 days
  escherctl prune --dry-run              only show how much that is
  escherctl prune --filter status=completed --filter label.team=web
  escherctl prune                        remove all finished executions";

pub(super) const LOGS: &str = "\
Examples:
  escherctl logs 17                      all output so far
  escherctl logs -f -n 20 -t nightly     the last 20 lines and all that follow
  escherctl logs -f web worker           both, each line behind its name
  escherctl logs --since 5m @last        what your newest has written lately";

pub(super) const EVENTS: &str = "\
Examples:
  escherctl events                       all that escherd still has
  escherctl events -f                    from now on
  escherctl events -f -n 10 --filter status=failed";

pub(super) const SEND: &str = "\
Examples:
  id=$(escherctl submit -i ./repl)
  echo 'print 1' | escherctl send \"$id\"
  escherctl send --end \"$id\" < rest       (and no more)";

pub(super) const KILL: &str = "\
Examples:
  escherctl kill -HUP 17
  escherctl kill -9 nightly              (`cancel` ends all its processes)
  escherctl kill -s USR1 --tree 17";

pub(super) const PAUSE: &str = "\
Examples:
  escherctl pause 17
  escherctl pause 17; sleep 60; escherctl resume 17";

pub(super) const RESUME: &str = "\
Examples:
  escherctl resume 17";

pub(super) const CONFIG: &str = "\
Examples:
  escherctl config show                  the settings in force
  escherctl config check                 check what escherd would read now
  escherctl config check ./escher.toml   check this file";

pub(super) const CONFIG_SHOW: &str = "\
Examples:
  escherctl config show
  escherctl config show --json | jq -r 'select(.origin != \"default\") | .name'";

pub(super) const CONFIG_CHECK: &str = "\
Examples:
  escherctl config check                 check what escherd would read now
  escherctl config check ./escher.toml   check this file alone
  escherctl config check --user          check what `escherd --user` would read";

pub(super) const RELOAD: &str = "\
Examples:
  escherctl reload
  escherctl config check && escherctl reload";

pub(super) const DOCTOR: &str = "\
Examples:
  escherctl doctor
  escherctl doctor --user                of your own escherd
  sudo escherctl doctor -q               only problems; root sees more of them
  escherctl doctor --json | jq -r 'select(.severity == \"failure\") | .advice'";

pub(super) const QUOTA: &str = "\
Examples:
  escherctl quota
  sudo escherctl quota                   of all users
  sudo escherctl quota --user alice";

pub(super) const METRICS: &str = "\
Examples:
  escherctl metrics | grep executions
  escherctl metrics > /var/lib/prometheus/node-exporter/escher.prom";
