/** Where an installation has its files, as the robot sees them. */
export const HOME = '/var/lib/medulla'
export const BOARD = `${HOME}/board.json`

export const SERVICE = '/etc/systemd/system/medulla.service'
export const SOCKET = '/etc/systemd/system/medulla.socket'
export const DISCOVERY = '/etc/systemd/system/medulla-discovery.socket'
export const WANTS = [
  { path: '/etc/systemd/system/multi-user.target.wants/medulla.service', target: SERVICE },
  { path: '/etc/systemd/system/sockets.target.wants/medulla.socket', target: SOCKET },
] as const

export const GROUPS_FILE = '/etc/sysusers.d/medulla.conf'
export const RULES_FILE = '/etc/udev/rules.d/60-medulla.rules'
export const MODULES_FILE = '/etc/modules-load.d/medulla.conf'
export const WATCHDOG_FILE = '/etc/systemd/system.conf.d/60-medulla.conf'
/** What `medulla uninstall` cannot see: which words of cmdline.txt are ours. */
export const RECORD = '/etc/medulla/installed.json'

/** Folders that only an installation makes: an empty one is removed with its last file. */
export const OWN_FOLDERS = ['/etc/medulla', '/etc/systemd/system.conf.d', '/etc/sysusers.d']
