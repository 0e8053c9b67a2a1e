# Installs what building escher needs, where that is possible. Sourced by `demo`, `check` and `packaging/build`.

if ! command -v cargo >/dev/null; then
    echo "escher needs Rust 1.89 or newer, and cargo was not found: see https://rustup.rs" >&2
    exit 1
fi

# install PACKAGE...: installs Debian packages, as root; elsewhere fails with their names.
install() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$@" >/dev/null
    else
        echo "please install: $*" >&2
        exit 1
    fi
}

# unpack PACKAGE PROGRAM: unpacks one program of a Debian package and puts it into PATH. Installing the package
# would also install and start others.
unpack() {
    local tools="$PWD/target/tools"
    if ! [ -x "$tools/usr/bin/$2" ]; then
        if ! command -v apt-get >/dev/null; then
            echo "please install: $2" >&2
            exit 1
        fi
        mkdir -p "$tools/download"
        [ "$(id -u)" != 0 ] || apt-get update -qq
        (cd "$tools/download" && apt-get download -qq -o APT::Sandbox::User=root "$1")
        dpkg-deb --fsys-tarfile "$tools/download/$1"_*.deb | tar -x -C "$tools" "./usr/bin/$2"
        rm -r "$tools/download"
    fi
    PATH="$tools/usr/bin:$PATH"
}

# The version of cargo-deb, which builds the Debian package.
CARGO_DEB=3.8.0

# The version of cargo-fuzz, which builds and runs the fuzz targets.
CARGO_FUZZ=0.13.2

# cargo_tool NAME VERSION: installs a program by cargo and puts it into PATH.
cargo_tool() {
    local tools="$PWD/target/tools"
    if ! "$tools/bin/$1" --version 2>/dev/null | grep -qxF "$1 $2"; then
        cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" "$1" --version "=$2"
        rm -rf "$tools/build"
    fi
    PATH="$tools/bin:$PATH"
}

command -v cc >/dev/null || install gcc libc6-dev
