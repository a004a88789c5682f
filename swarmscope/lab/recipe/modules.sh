#!/bin/sh
# Inside the toolchain's root: modules.sh KERNEL JOBS. Builds LTTng's kernel modules from /build/lttng.deb into /build/modules.
set -eu
kernel=$1 jobs=$2
rm -rf /build/source /build/modules
mkdir -p "/build/modules/usr/lib/modules/$kernel/updates/dkms"
dpkg-deb -x /build/lttng.deb /build/source
cd /build/source/usr/src/lttng-modules-*
# As the package's dkms.conf has it, but without debug information and the type information made of it: nobody
# reads them here, and they are half of the time.
KERNELDIR=/lib/modules/$kernel/build make -j"$jobs" KCFLAGS=-g0 CONFIG_DEBUG_INFO_BTF_MODULES= modules
find . -name 'lttng-*.ko' ! -name '*test*' -exec cp -t "/build/modules/usr/lib/modules/$kernel/updates/dkms" {} +
cd "/build/modules/usr/lib/modules/$kernel/updates/dkms"
[ -e lttng-tracer.ko ]
strip --strip-debug ./*.ko
