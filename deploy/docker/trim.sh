#!/bin/sh
# Removes from the image's root what a gateway never needs, and an intruder might: package managers, perl, pip,
# documentation. The list of installed packages stays (/var/lib/dpkg/status), for scanners, and so do the licences.
set -eu

stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
for name in ensurepip idlelib tkinter turtledemo lib2to3 pydoc_data test; do rm -rf "${stdlib:?}/$name"; done
rm -rf "$stdlib"/config-* "$stdlib"/site-packages/pip* "$stdlib"/site-packages/setuptools* "$stdlib"/site-packages/wheel*
find "$stdlib" /usr/lib/python3 -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
rm -rf /usr/share/python-wheels /usr/lib/python3/dist-packages/* /usr/local/include /usr/local/bin/pip* /usr/local/bin/idle* \
    /usr/local/bin/pydoc* /usr/local/share/man

rm -rf /etc/apt /usr/lib/apt /usr/bin/apt* /usr/lib/*/libapt-* /var/lib/apt /var/cache/apt /var/cache/debconf /usr/bin/dpkg* /usr/lib/dpkg \
    /usr/share/dpkg /var/lib/dpkg/info /var/lib/dpkg/*-old /usr/sbin/*.dpkg* /etc/dpkg
rm -rf /usr/bin/perl* /usr/lib/*/perl* /usr/lib/*/libperl* /usr/share/perl* /usr/share/debconf /usr/lib/*/gconv
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/bash-completion /var/log/*
# Libraries that only these had a use for.
for name in gnutls p11-kit hogweed nettle unistring idn2 tasn1 ext2fs e2p systemd gcrypt gpg-error sepol semanage pam apt; do
    rm -rf /usr/lib/*/lib"$name"[._-]*
done
# Whoever may not be root has no use for what makes file systems and users.
find /usr/sbin -type f -not -name nologin -delete
rm -rf /etc/pam.d /etc/cron.daily /etc/logrotate.d /usr/share/bug /usr/share/lintian /usr/share/pam*
cd /usr/bin && rm -f su passwd chsh chfn newgrp chage expiry gpasswd mount umount wall
find /usr/share/doc -type f -not -name copyright -delete
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# Of the packages: databases that no ledger is on, tests, the colours of other languages' sources, interfaces of a cloud.
cd /opt/model-gateway/lib/python3*/site-packages
rm -rf sqlalchemy/dialects/mysql sqlalchemy/dialects/mssql sqlalchemy/dialects/oracle sqlalchemy/testing alembic/testing
find pygments/lexers -type f -not -name __init__.py -not -name _mapping.py -not -name python.py -delete
rm -rf google/api google/type google/cloud google/gapic google/logging google/longrunning
rm -rf /usr/bin/openssl /usr/lib/*/security "$stdlib/distutils"
