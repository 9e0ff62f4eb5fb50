"""The host: units, logrotate, AppArmor and the installer, on a booted systemd where that can be had."""
