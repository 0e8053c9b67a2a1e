# What building escher needs, brought along where that can be done. Sourced by `demo` and `check`.

if ! command -v cargo >/dev/null; then
    echo "escher is built with Rust 1.89 or newer, which is not here: see https://rustup.rs" >&2
    exit 1
fi

# install PACKAGE...: Debian packages, as root; elsewhere says what is missing.
install() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$@" >/dev/null
    else
        echo "please install: $*" >&2
        exit 1
    fi
}

command -v cc >/dev/null || install gcc libc6-dev
