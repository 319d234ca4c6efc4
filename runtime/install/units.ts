/** The texts of the files of /etc that a robot needs. Pure. */

/** Where the package's parts are, as the robot sees them. */
export interface Places {
  readonly node: string
  /** dist/runtime/main.js */
  readonly main: string
}

const EXEC = /^ExecStart=\S+ \S+/m
/** From the comment of the unit to the next one. */
const OWN_NETWORK = /^# 16\.6:[\s\S]*?\n\n/m
const HOST_NETWORK = `# 16.6: the board file asks for the network of this computer.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK

`

/** The unit with the paths of this installation. `network`: the board has handles or slots that use the network. */
export function serviceUnit(template: string, { node, main }: Places, network: boolean): string {
  if (!EXEC.test(template) || !OWN_NETWORK.test(template))
    throw new Error('the unit of this package is not as expected')
  const text = template.replace(EXEC, () => `ExecStart=${word(node)} ${word(main)}`)
  return network ? text.replace(OWN_NETWORK, HOST_NETWORK) : text
}

/** A word of a command line of systemd.service(5): quoted, `%` and `$` doubled. */
function word(path: string): string {
  const doubled = path.replaceAll('%', '%%').replaceAll('$', () => '$$')
  return /^[\w./@:+%$-]+$/.test(doubled) ? doubled : `"${doubled.replace(/["\\]/g, '\\$&')}"`
}

/** The paths in the unit of another installation, or null. */
export function placesIn(unit: string): Places | null {
  const [, node, main] = /^ExecStart=("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)/m.exec(unit) ?? []
  return node === undefined || main === undefined ? null : { node: plain(node), main: plain(main) }
}

function plain(given: string): string {
  const text = given.startsWith('"') ? given.slice(1, -1).replace(/\\(.)/g, '$1') : given
  return text.replaceAll('%%', '%').replaceAll('$$', () => '$')
}

/** Folders that ProtectHome= and PrivateTmp= hide from the service. */
const HIDDEN = ['/home/', '/root/', '/run/user/', '/tmp/', '/var/tmp/']

export function isHidden(path: string): boolean {
  return HIDDEN.some((folder) => path.startsWith(folder))
}

/** sysusers.d(5). Raspberry Pi OS has these groups already. */
export const GROUPS = `# Groups of the devices that a robot drives, for people who look at them without root.
# The runtime needs no group, and its programs have users of their own that are in no database.
g gpio -
g i2c -
g spi -
g pwm -
`

/** udev(7). sysfs has no owner of its own, so pwm files are changed by commands. */
export const RULES = `# The devices of a robot belong to groups: sudo usermod -aG gpio,i2c,spi,pwm NAME
SUBSYSTEM=="gpio", KERNEL=="gpiochip*", GROUP="gpio", MODE="0660"
SUBSYSTEM=="i2c-dev", GROUP="i2c", MODE="0660"
SUBSYSTEM=="spidev", GROUP="spi", MODE="0660"
SUBSYSTEM=="pwm", ACTION=="add|change", RUN+="/bin/chgrp -R pwm /sys%p", RUN+="/bin/chmod -R g=u /sys%p"
`

export const MODULES = `# /dev/i2c-* of the handles of the board file
i2c-dev
`

/** The hardware watchdog of a Pi counts at most 15 s; with a longer time systemd has none, and says nothing. */
export const WATCHDOG = `# The Pi is started again when systemd hangs for this long.
[Manager]
RuntimeWatchdogSec=15s
`
