#!/bin/sh
# Inside the root file system of the machines lab's image: finish.sh KERNEL USER UID [UNIT...]
# Packages, settings, guest files and LTTng's modules are there already; this makes a bootable system of them.
set -eu
kernel=$1 user=$2 uid=$3
shift 3
modules=/usr/lib/modules/$kernel

# '*' and not '!': no password, and still not a locked account, which sshd would refuse
useradd --uid "$uid" --user-group --create-home --shell /bin/bash --password '*' "$user"

for unit in "$@"; do
    systemctl enable "$unit"
done
systemctl set-default multi-user.target
# Loading all of LTTng's modules takes an emulated CPU half a minute at boot; who records with it starts it.
systemctl disable lttng-sessiond.service

# Loading a compressed module costs its decompression on an emulated CPU, every time.
find "$modules" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P 2 busybox unxz
find "$modules" -name '*.ko.zst' -print0 | xargs -0 -r -n 64 -P 2 zstd -q --rm -d
depmod -a "$kernel"

# The initrd: busybox, a script, and the modules between the kernel and its disk.
work=/tmp/initrd
mkdir -p $work/bin $work/lib $work/dev $work/proc $work/sys $work/root
cp /bin/busybox $work/bin/busybox
ln -s busybox $work/bin/sh
cp /tmp/recipe/init $work/init
chmod 755 $work/init
: >$work/modules
for module in virtio_pci virtio_blk crc32c_generic crc32c_intel ext4; do
    needed=$(modprobe --set-version "$kernel" --show-depends "$module" 2>/dev/null) || {
        case $module in
            crc32c_*) continue ;; # a library of the kernel itself in newer ones
            *) echo "kernel $kernel has no $module" >&2 && exit 1 ;;
        esac
    }
    echo "$needed" | while read -r what path _; do
        [ "$what" = insmod ] || continue
        name=$(basename "$path")
        grep -qxF "$name" $work/modules && continue
        cp "$path" $work/lib/
        echo "$name" >>$work/modules
    done
done
# not compressed: a few MB are read faster than an emulated CPU unpacks them
(cd $work && find . -print0 | busybox cpio -0 -o -H newc) >/boot/initrd
cp "/boot/vmlinuz-$kernel" /boot/vmlinuz

# What must differ between machines is made on each of them; what is stale on first boot costs time there.
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: >/etc/machine-id
rm -rf /tmp/initrd /tmp/recipe /var/cache/apt/* /var/lib/apt/lists/* /var/log/*.log /var/log/apt
ldconfig
touch /etc/.updated /var/.updated
