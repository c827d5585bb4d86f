#!/bin/sh
# Prints the interpreter to make .venv of: the first from 3.11 to 3.14 that has venv and was built with optimisations (the
# same code takes 6 to 25 % less CPU, docs/performance.md); else the first with venv; else the first of those versions, for
# whose missing venv make has a remedy. Prints nothing where there is none. For newer ones some of what is installed has
# to be compiled.

probe='
import sys, sysconfig
if (3, 11) <= sys.version_info < (3, 15):
    # Windows tells nothing here, Debian tells of another build: both are optimised. As in doctor/machine.py.
    built = sysconfig.get_config_var("CONFIG_ARGS") or "--enable-optimizations"
    optimised = sys.base_prefix == "/usr" or "--enable-optimizations" in built
    try:
        import ensurepip, venv
    except ImportError:
        print("bare")
    else:
        print("optimised" if optimised else "plain")
'
for python in python3 python3.14 python3.13 python3.12 python3.11 python \
	/usr/bin/python3 /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11; do
	case $("$python" -c "$probe" 2>/dev/null) in
	optimised) echo "$python"; exit ;;
	plain) plain=${plain:-$python} ;;
	bare) bare=${bare:-$python} ;;
	esac
done
echo "${plain:-$bare}"
