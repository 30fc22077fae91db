#!/bin/sh
# Puts the plugin's binary into $HELM_PLUGIN_DIR/bin. "helm plugin install" and
# "helm plugin update" run this in the user's folder; an update has wiped what git
# ignores before, so the binary is always made anew. Helm 4 sets nothing but
# HELM_PLUGIN_DIR and HELM_PLUGIN_NAME here, so nothing else is relied on.
set -eu

fail() {
  printf 'helm-parallel-hooks: %s\n' "$@" >&2
  exit 1
}

# try_again ends a message about something that the user can mend: the failed
# plugin stays listed, and Helm wouldn't install over it.
try_again='Then run "helm plugin uninstall parallel-hooks" and install it again.'

plugin_version() {
  sed -n 's/^version: *"\{0,1\}\([^" ]*\)"\{0,1\} *$/\1/p' plugin.yaml
}

# build_from_source builds the binary with the Go toolchain, beside its place, so
# that moving it there is one step and a failure leaves the old one as it was.
build_from_source() {
  if ! command -v go >/dev/null 2>&1; then
    fail "the plugin is built when it's installed, and no Go toolchain was found." \
      "Install Go from https://go.dev/dl/ and put it on the PATH. $try_again"
  fi
  printf 'Building helm-parallel-hooks %s with %s; this takes a minute or two.\n' "$version" "$(go env GOVERSION)"
  # Neither a C compiler is needed, nor what git says of the clone: if it
  # belongs to another user, go would refuse to build. And a go.work file above
  # it must not have a say.
  CGO_ENABLED=0 GOWORK=off go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$new" . ||
    fail "the build failed, see above. $try_again"
}

if [ -z "${HELM_PLUGIN_DIR:-}" ]; then
  fail "HELM_PLUGIN_DIR is not set. Install the plugin with \"helm plugin install\"."
fi
cd "$HELM_PLUGIN_DIR" || fail "can't change to the plugin's folder $HELM_PLUGIN_DIR."

version=$(plugin_version)
binary=bin/helm-parallel-hooks
mkdir -p bin || fail "can't make the folder $HELM_PLUGIN_DIR/bin. $try_again"
new=bin/.new.$$
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM

# An archive brings the binary and no source.
if [ -f go.mod ]; then
  build_from_source
  mv -f "$new" "$binary" || fail "can't write $HELM_PLUGIN_DIR/$binary. $try_again"
elif [ ! -x "$binary" ]; then
  fail "$HELM_PLUGIN_DIR has neither the source nor a binary. Install the plugin from its git repository."
fi
printf 'Installed %s.\n' "$HELM_PLUGIN_DIR/$binary"
