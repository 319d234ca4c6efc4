/** Judges the machine's devices against the handles of the board file. */

import { gpioChipOf } from '../../drivers/board/models.ts'
import type { Board, PwmEntry } from '../../drivers/board/types.ts'
import { overlayOf } from '../install/bootfiles.ts'
import type { Chip, Device, Facts, NativeModule } from './facts.ts'
import { act, type Finding, type Fix, handles, names, ok, problem, run, UPDATE, warning, write } from './finding.ts'
import { HEADER_PWM, isPi, modelOf } from './models.ts'

/** What installs a module. The versions are those of package.json. */
const INSTALL: Record<NativeModule, string> = {
  koffi: 'npm install koffi@3.3.4',
  'i2c-bus': 'sudo apt install build-essential python3 && npm install i2c-bus@5.2.3',
  onoff: 'npm install onoff@6.0.3',
  epoll: 'sudo apt install build-essential python3 && npm install onoff@6.0.3',
  pigpio: 'sudo apt install libpigpio-dev build-essential python3 && npm install pigpio@3.3.1',
}
const CONSUMER = 'medulla:'

export function aboutHardware(facts: Facts, board: Board | null): Finding[] {
  if (board?.model === 'sim') return [ok('gpio', 'not checked: the board is simulated')]
  return [
    ...gpio(facts, board),
    ...lines(facts, board),
    sysfs(facts, board),
    ...i2c(facts, board),
    spi(facts, board),
    ...pwm(facts, board),
    ...serial(facts, board),
    ...temperature(facts, board),
    ...modules(facts, board),
    permissions(facts),
  ]
}

function gpio({ chips, model: name, modules }: Facts, board: Board | null): Finding[] {
  const about = 'gpio'
  const machine = modelOf(name)
  // a board file for another model is reported as a problem by machine.ts
  const mistaken = machine !== null && board !== null && board.model !== machine && board.model !== 'linux'
  const wanted = mistaken ? gpioChipOf(machine) : (board?.chip ?? gpioChipOf(machine ?? 'linux'))
  if (chips.length === 0) {
    const found = 'no /dev/gpiochip*: no pin can be driven on this machine'
    const fix = isPi(name) ? UPDATE : run('medulla sim')
    return [board === null && !isPi(name) ? warning(about, found, fix) : problem(about, found, fix)]
  }
  const shown = chips.map(({ path, label }) => `${path} ${label ?? '(label unknown)'}`).join(', ')
  if (wanted === undefined || chips.some(({ label }) => label === wanted)) {
    const others = chips
      .filter(({ label }) => label === wanted)
      .flatMap(({ used }) => Object.entries(used))
      .filter(([, user]) => !user.startsWith(CONSUMER))
      .map(([line, user]) => `GPIO${line} ${user === '?' ? '' : JSON.stringify(user)}`.trim())
    return [ok(about, others.length === 0 ? shown : `${shown}; in use: ${others.join(', ')}`)]
  }
  // labels are unknown without koffi or permission, which modules() and permissions() report
  if (modules.koffi !== null || chips.some(({ open }) => !open)) return [warning(about, shown)]
  const labels = chips.map(({ label }) => label ?? '?').join(' or ')
  return [problem(about, `no chip has the label ${wanted}; found ${shown}`, write(`"chip": "${labels}"`, 'board.json'))]
}

/** Whether each line of the board file exists and is free. */
function lines({ chips, home }: Facts, board: Board | null): Finding[] {
  const chip: Chip | undefined = chips.find(({ label }) => label !== null && label === board?.chip)
  if (chip === undefined) return []
  const free: string[] = []
  const found: Finding[] = []
  for (const [name, entry] of handles(board, 'output', 'input', 'pwm', 'servo')) {
    const about = 'line'
    const number = Number(entry.line.slice('GPIO'.length))
    if (number >= chip.lines) {
      const beyond = `"${name}": ${entry.line} does not exist, ${chip.label ?? chip.path} has ${chip.lines} lines`
      found.push(problem(about, beyond, write(`"line": "GPIO0" to "GPIO${chip.lines - 1}"`, 'board.json')))
      continue
    }
    const user = chip.used[number]
    // the kernel cuts a consumer's name to 31 bytes
    const ours = user !== undefined && user === `${CONSUMER}${name}`.slice(0, 31)
    if (user === undefined || (ours && home.running !== null)) free.push(name)
    else if (ours) {
      const held = `"${name}": ${entry.line} is held by a runtime with another home, or by the guard of a dead one`
      found.push(warning(about, held, run('pgrep -af medulla')))
    } else {
      const held = `"${name}": ${entry.line} is held by ${user === '?' ? 'the kernel' : JSON.stringify(user)}`
      found.push(problem(about, held, act('end the process that holds the line, or use another line')))
    }
  }
  if (free.length > 0) found.unshift(ok('lines', `${names(free)}: present and free`))
  return found
}

function sysfs({ sysfsGpio }: Facts, board: Board | null): Finding {
  const about = 'sysfs'
  const users = handles(board, 'output', 'input').filter(([, { driver }]) => driver === 'sysfs')
  if (sysfsGpio) return ok(about, '/sys/class/gpio exists (legacy; not needed)')
  if (users.length === 0) return ok(about, 'no /sys/class/gpio, and no handle needs it')
  const list = names(users.map(([name]) => name))
  const found = `no /sys/class/gpio, but "driver": "sysfs" is set for ${list}`
  return problem(about, found, write('"driver": "cdev"', 'board.json'))
}

function i2c({ i2c: buses, i2cDrivers, model, firmware }: Facts, board: Board | null): Finding[] {
  const about = 'i2c'
  const users = handles(board, 'i2c', 'analog')
  const enable = isPi(model)
    ? [run('sudo raspi-config nonint do_i2c 0'), write('dtparam=i2c_arm=on', `${firmware}/config.txt`)]
    : [run('sudo modprobe i2c-dev')]
  const there = buses.map(({ path }) => path)
  const findings: Finding[] = []
  const absent = users.filter(([, { bus }]) => !there.includes(`/dev/i2c-${bus}`))
  if (absent.length > 0) {
    const [first] = absent
    const found = `no /dev/i2c-${first?.[1].bus}, needed by ${names(absent.map(([name]) => name))}`
    findings.push(missing(about, found, true, enable))
  } else if (there.length === 0) findings.push(missing(about, 'no /dev/i2c-*', users.length > 0, enable))
  else findings.push(ok(about, there.join(', ')))
  for (const [name, { bus, address }] of users) {
    const device = `${bus}-${address.toString(16).padStart(4, '0')}`
    const driver = i2cDrivers[device]
    if (driver === undefined) continue
    findings.push(
      problem(
        about,
        `"${name}": the kernel driver ${driver} uses the chip at 0x${address.toString(16)}`,
        run(`echo ${device} | sudo tee /sys/bus/i2c/devices/${device}/driver/unbind`),
      ),
    )
  }
  return findings
}

function spi({ spi: devices, model, firmware }: Facts, board: Board | null): Finding {
  const there = devices.map(({ path }) => path)
  const absent = handles(board, 'spi').filter(([, { bus, select }]) => !there.includes(`/dev/spidev${bus}.${select}`))
  const enable = isPi(model)
    ? [run('sudo raspi-config nonint do_spi 0'), write('dtparam=spi=on', `${firmware}/config.txt`)]
    : [run('sudo modprobe spidev')]
  if (absent.length === 0 && there.length > 0) return ok('spi', there.join(', '))
  const [first] = absent
  if (first === undefined) return missing('spi', 'no /dev/spidev*', false, enable)
  const [name, { bus, select }] = first
  return missing('spi', `no /dev/spidev${bus}.${select}, needed by "${name}"`, true, enable)
}

function pwm(facts: Facts, board: Board | null): Finding[] {
  const about = 'pwm'
  const { pwm: chips, model, firmware } = facts
  const users = handles(board, 'pwm', 'servo').filter(([, { driver }]) => driver === 'kernel')
  const overlay = isPi(model)
    ? [write(overlayOf(users.map(([, { line }]) => line)), `${firmware}/config.txt`), run('sudo reboot')]
    : [act('enable a PWM chip in the device tree of this board')]
  if (chips.length === 0) {
    const found =
      users.length === 0 ? 'no chip in /sys/class/pwm' : `no PWM chip, needed by ${names(users.map(([name]) => name))}`
    return [missing(about, found, users.length > 0, overlay)]
  }
  const shown = chips.map(({ number, channels, device }) => `pwmchip${number} (${channels} channels, ${device})`)
  return [ok(about, shown.join(', ')), ...users.flatMap(([name, entry]) => channel(facts, board, name, entry, overlay))]
}

/** Chip numbers differ from kernel to kernel: on a Pi 5 the header's chip was pwmchip2 in 6.6 and is pwmchip0 in 6.12. */
function channel(
  { pwm: chips }: Facts,
  board: Board | null,
  name: string,
  { channel: at }: Pick<PwmEntry, 'channel'>,
  overlay: Fix[],
) {
  const about = 'pwm'
  if (at === undefined) return []
  const header = chips.find(({ device }) => board !== null && device === HEADER_PWM[board.model])
  const line = (chip: number, number = at.channel) =>
    write(`"channel": { "chip": ${chip}, "channel": ${number} }`, 'board.json')
  if (header !== undefined && header.number !== at.chip) {
    const found = `"${name}": pwmchip${at.chip} does not reach the header, pwmchip${header.number} does`
    return [problem(about, found, line(header.number))]
  }
  const chip = chips.find(({ number }) => number === at.chip)
  if (chip === undefined) {
    const fix = overlay[0] ?? line(chips[0]?.number ?? 0)
    return [problem(about, `"${name}": no pwmchip${at.chip}`, fix, ...overlay.slice(1))]
  }
  if (at.channel < chip.channels) return []
  const found = `"${name}": pwmchip${at.chip} has channels 0 to ${chip.channels - 1}, not ${at.channel}`
  return [problem(about, found, line(at.chip, chip.channels - 1))]
}

function serial({ serial: devices, cmdline, model }: Facts, board: Board | null): Finding[] {
  const about = 'serial'
  const users = handles(board, 'serial')
  const there = devices.map(({ path }) => path)
  const findings: Finding[] = []
  for (const [name, { path }] of users) {
    if (there.includes(path)) continue
    const enable = isPi(model) ? run('sudo raspi-config nonint do_serial_hw 0 && sudo reboot') : run('ls /dev/tty*')
    findings.push(problem(about, `no ${path}, needed by "${name}"`, enable))
  }
  const targets = users.map(([, { path }]) => devices.find((device) => device.path === path)?.target ?? path)
  const used = targets.map((path) => path.slice('/dev/'.length))
  const consoles = [...cmdline.matchAll(/\bconsole=([^\s,]+)/g)].map(([, tty]) => tty ?? '')
  const shared = consoles.find((tty) => used.includes(tty))
  if (shared !== undefined) {
    const off = isPi(model) ? run('sudo raspi-config nonint do_serial_cons 1 && sudo reboot') : run('cat /proc/cmdline')
    findings.push(problem(about, `the kernel's console is on /dev/${shared}, which the board file uses`, off))
  }
  if (findings.length > 0) return findings
  return [ok(about, there.length === 0 ? 'no serial port, and no handle needs one' : there.join(', '))]
}

function modules({ modules: said }: Facts, board: Board | null): Finding[] {
  const lineUsers = handles(board, 'output', 'input')
  const sysfsUsed = lineUsers.some(([, { driver }]) => driver === 'sysfs')
  const needed: Record<NativeModule, boolean> = {
    koffi: true,
    'i2c-bus': handles(board, 'i2c', 'analog').length > 0,
    onoff: sysfsUsed,
    epoll: sysfsUsed,
    pigpio: handles(board, 'pwm', 'servo').some(([, { driver }]) => driver === 'pigpio'),
  }
  const list = Object.keys(INSTALL) as NativeModule[]
  const loaded = list.filter((name) => said[name] === null)
  const unused = list.filter((name) => said[name] !== null && !needed[name])
  const findings = list
    .filter((name) => said[name] !== null && needed[name])
    .map((name) => problem('packages', `${name} does not load: ${said[name]}`, run(INSTALL[name])))
  const others = unused.length === 0 ? '' : `; not needed: ${unused.join(', ')}`
  return [...findings, ok('packages', `${loaded.length === 0 ? 'none' : loaded.join(', ')} load${others}`)]
}

function temperature({ w1, model, firmware }: Facts, board: Board | null): Finding[] {
  const users = handles(board, 'temperature')
  const [first] = users
  if (first === undefined) return []
  const about = 'temperature'
  const absent = users.find(([, { device }]) => !(w1 ?? []).includes(device))
  if (absent === undefined) return [ok(about, users.map(([, { device }]) => device).join(', '))]
  const [name, { device }] = absent
  const what = `no sensor ${device}, needed by "${name}"`
  if (w1 === null) {
    const overlay = isPi(model)
      ? write('dtoverlay=w1-gpio', `${firmware}/config.txt`)
      : act('enable a 1-wire bus in the device tree of this board')
    return [problem(about, `no 1-wire bus, so ${what}`, overlay)]
  }
  const found = w1.length === 0 ? 'nothing' : w1.join(', ')
  const fix = act("check the sensor's wires, and 4.7 kOhm from the data line to 3.3 V")
  return [problem(about, `${what}; on the bus: ${found}`, fix)]
}

/** Which devices this user may not open; root may open all. */
function permissions({ user, chips, i2c: buses, spi: selects, pwm: pwms, serial: ports }: Facts): Finding {
  const about = 'user'
  if (user.uid === 0) return ok(about, 'root')
  const closed: Device[] = [...chips, ...buses, ...selects, ...pwms, ...ports].filter(({ open }) => !open)
  if (closed.length === 0) return ok(about, `${user.name}, of ${user.groups.join(', ')}`)
  const paths = closed.map(({ path }) => path)
  const shown = `${paths.slice(0, 3).join(', ')}${paths.length > 3 ? ` and ${paths.length - 3} more` : ''}`
  const found = `${user.name} may not open ${shown}`
  const groups = [...new Set(closed.map(({ group }) => group))].filter((group) => group !== 'root')
  const join = groups.filter((group) => !user.groups.includes(group))
  if (join.length === 0) return warning(about, found, act('run the runtime as root, as its service does'))
  return warning(about, found, run(`sudo usermod -aG ${join.join(',')} ${user.name}`), act('log in again'))
}

function missing(about: string, found: string, needed: boolean, fix: readonly Fix[]): Finding {
  const [first, ...more] = fix
  if (needed && first !== undefined) return problem(about, found, first, ...more)
  return warning(about, `${found}; only handles of that kind need it`, ...fix)
}
