/** Judges made-up machines: each has one fault, with the expected finding and fix. */
import { expect, test } from 'vitest'
import type { Finding } from '../../../deploy/shared/doctor.ts'
import type { Facts } from '../../../runtime/doctor/facts.ts'
import { gather, groupNames, memoryOf, placeOfGroup } from '../../../runtime/doctor/gather.ts'
import { judge } from '../../../runtime/doctor/judge.ts'
import { modelOf } from '../../../runtime/doctor/models.ts'
import { BOARD, board, PI4 } from './madeuppi.ts'

/** The findings that are not ok. */
function faults(changed: Partial<Facts>): Finding[] {
  return judge({ ...PI4, ...changed }).findings.filter(({ severity }) => severity !== 'ok')
}

test('a machine without a fault has findings of severity ok only', () => {
  expect(faults({})).toEqual([])
  expect(judge(PI4)).toMatchObject({ host: 'arm', machine: 'Raspberry Pi 4 Model B Rev 1.4', board: '/b.json' })
  expect(judge(PI4).findings.find(({ about }) => about === 'gpio')?.found).toContain('in use: GPIO42 "ACT"')
})

const WATER = { water: { kind: 'temperature', device: '28-0316a279f5ff' } }
const LED = { led: { kind: 'output', line: 'GPIO17' } }
const [header, expander] = PI4.chips as [Facts['chips'][0], Facts['chips'][0]]
const pwmchip = (number: number, device: string, channels = 4) => ({ ...PI4.pwm[0], number, device, channels }) as never
const closed = <D extends { open: boolean }>(devices: readonly D[]) => devices.map((one) => ({ ...one, open: false }))

test.each<[title: string, Partial<Facts>, severity: string, found: string, fix: object]>([
  ['kernel', { kernel: '5.4.0' }, 'problem', 'below 5.10', { run: expect.stringContaining('full-upgrade') }],
  ['kernel', { kernel: '5.10.110' }, 'warning', 'cgroup.kill', { run: expect.stringContaining('full-upgrade') }],
  ['kernel', { arch: 'arm' }, 'problem', '64-bit', { do: expect.stringContaining('64-bit') }],
  [
    'node',
    { node: { ...PI4.node, version: '18.19.0' } },
    'problem',
    'expected 20.19',
    { do: expect.stringContaining('nodejs') },
  ],
  [
    'node',
    { node: { ...PI4.node, closed: '/home/pi/medulla' } },
    'problem',
    'cannot read /home/pi/medulla',
    { run: 'sudo chmod -R o+rX /home/pi/medulla' },
  ],
  [
    'model',
    board({ model: 'pi3' }, LED),
    'problem',
    'but the board says "pi3"',
    { write: '"model": "pi4"', to: '/b.json' },
  ],
  [
    'power',
    { throttled: 0x5_0005 },
    'problem',
    'now: under-voltage, throttled',
    { do: expect.stringContaining('5.1 V') },
  ],
  ['power', { throttled: 0x1_0000 }, 'warning', 'since the start: under-voltage', { do: expect.any(String) }],
  ['power', { throttled: 0x8_0008 }, 'problem', 'soft temperature limit', { do: expect.stringContaining('heat sink') }],
  [
    'service',
    { service: { installed: false, missing: null } },
    'warning',
    'not started',
    { run: 'sudo medulla install' },
  ],
  [
    'service',
    { service: { installed: true, missing: '/opt/node/bin/node' } },
    'problem',
    'starts /opt/node/bin/node, which is not there',
    { run: 'sudo medulla install' },
  ],
  ['clock', { clockSet: false }, 'warning', 'not synchronised', { run: 'sudo timedatectl set-ntp true' }],
  ['memory', { memory: { totalMb: 416, availableMb: 90 } }, 'problem', 'needs 124', { run: expect.any(String) }],
  [
    'realtime',
    { ...board({ realtime: 50 }), realtime: { works: false, runtimeUs: 950_000, preemptRt: false } },
    'problem',
    'SCHED_FIFO is not allowed',
    { write: 'LimitRTPRIO=99', to: expect.any(String) },
  ],
  [
    'realtime',
    { ...board({ realtime: 50 }), realtime: { works: true, runtimeUs: -1, preemptRt: true } },
    'warning',
    'endless loop',
    { run: 'sudo sysctl -w kernel.sched_rt_runtime_us=950000' },
  ],
  ['home', { home: { ...PI4.home, there: false } }, 'warning', 'no robot in', { run: expect.any(String) }],
  ['home', { home: { ...PI4.home, closed: true } }, 'warning', 'may not read', { run: 'sudo medulla doctor' }],
  [
    'pairing',
    { home: { ...PI4.home, running: 77, pairing: '2026-11-30T14:05:00.000Z' } },
    'warning',
    'open until 2026-11-30T14:05:00.000Z',
    { do: 'pair your laptop, or wait until the window closes' },
  ],
  [
    'line',
    { chips: [{ ...header, used: { 17: 'gpio-fan' } }, expander] },
    'problem',
    '"led": GPIO17 is held by "gpio-fan"',
    { do: expect.any(String) },
  ],
  ['line', { chips: [{ ...header, used: { 17: '?' } }] }, 'problem', 'held by the kernel', { do: expect.any(String) }],
  [
    'line',
    { chips: [{ ...header, used: { 17: 'medulla:led' } }] },
    'warning',
    'a runtime with another home',
    { run: 'pgrep -af medulla' },
  ],
  [
    'line',
    { ...board({}, { led: { kind: 'output', line: 'GPIO53' } }), chips: [{ ...header, lines: 28 }] },
    'problem',
    'GPIO53 does not exist',
    { write: '"line": "GPIO0" to "GPIO27"', to: 'board.json' },
  ],
  ['gpio', { ...board({}, LED), chips: [] }, 'problem', 'no /dev/gpiochip*', { run: expect.any(String) }],
  [
    'gpio',
    { ...board({}, LED), chips: [{ ...header, label: 'pinctrl-rp1' }] },
    'problem',
    'no chip has the label pinctrl-bcm2711',
    { write: '"chip": "pinctrl-rp1"', to: 'board.json' },
  ],
  [
    'sysfs',
    {
      ...board({}, { led: { ...LED.led, driver: 'sysfs' } }),
      modules: { ...PI4.modules, onoff: null, epoll: null },
    },
    'problem',
    '"driver": "sysfs" is set for "led"',
    { write: '"driver": "cdev"', to: 'board.json' },
  ],
  ['i2c', { i2c: [] }, 'problem', 'no /dev/i2c-1, needed by "imu"', { run: 'sudo raspi-config nonint do_i2c 0' }],
  [
    'i2c',
    { ...board({}, LED), i2c: [] },
    'warning',
    'only handles of that kind need it',
    { run: 'sudo raspi-config nonint do_i2c 0' },
  ],
  [
    'i2c',
    { i2cDrivers: { '1-0068': 'rtc-ds1307' } },
    'problem',
    'rtc-ds1307 uses the chip at 0x68',
    { run: 'echo 1-0068 | sudo tee /sys/bus/i2c/devices/1-0068/driver/unbind' },
  ],
  ['spi', { spi: [] }, 'problem', 'needed by "display"', { run: 'sudo raspi-config nonint do_spi 0' }],
  [
    'pwm',
    { pwm: [] },
    'problem',
    'needed by "servo"',
    { write: 'dtoverlay=pwm-2chan', to: '/boot/firmware/config.txt' },
  ],
  [
    'pwm',
    { pwm: [pwmchip(1, 'fe20c800.pwm')] },
    'problem',
    'no pwmchip0',
    { write: 'dtoverlay=pwm-2chan', to: '/boot/firmware/config.txt' },
  ],
  [
    'pwm',
    { pwm: [pwmchip(0, '107d517a80.pwm'), pwmchip(2, 'fe20c000.pwm')] },
    'problem',
    'does not reach the header, pwmchip2 does',
    { write: '"channel": { "chip": 2, "channel": 0 }', to: 'board.json' },
  ],
  [
    'temperature',
    board({}, WATER),
    'problem',
    'no 1-wire bus, so no sensor 28-0316a279f5ff, needed by "water"',
    { write: 'dtoverlay=w1-gpio', to: '/boot/firmware/config.txt' },
  ],
  [
    'temperature',
    { ...board({}, WATER), w1: ['28-000000000001'] },
    'problem',
    'needed by "water"; on the bus: 28-000000000001',
    { do: "check the sensor's wires, and 4.7 kOhm from the data line to 3.3 V" },
  ],
  [
    'serial',
    { serial: [] },
    'problem',
    'no /dev/serial0',
    { run: 'sudo raspi-config nonint do_serial_hw 0 && sudo reboot' },
  ],
  [
    'serial',
    { cmdline: 'console=ttyAMA0,115200 console=tty1' },
    'problem',
    'console is on /dev/ttyAMA0',
    { run: 'sudo raspi-config nonint do_serial_cons 1 && sudo reboot' },
  ],
  [
    'packages',
    { modules: { ...PI4.modules, 'i2c-bus': 'Cannot find module' } },
    'problem',
    'i2c-bus does not load',
    { run: expect.stringContaining('npm install i2c-bus@') },
  ],
  [
    'tools',
    { noTools: ['setpriv', 'stty'] },
    'problem',
    'setpriv, stty',
    { run: 'sudo apt install util-linux coreutils' },
  ],
  [
    'confine',
    { confine: { ok: false, why: 'no seccomp', fix: 'use another kernel' } },
    'problem',
    'no seccomp',
    { do: 'use another kernel' },
  ],
  [
    'cgroup',
    { groups: { ...PI4.groups, controllers: ['cpu', 'pids'] } },
    'warning',
    'without memory',
    { write: 'cgroup_enable=memory', to: '/boot/firmware/cmdline.txt' },
  ],
  [
    'cgroup',
    { groups: { ...PI4.groups, mount: null } },
    'warning',
    'no cgroup v2',
    { write: expect.any(String), to: expect.any(String) },
  ],
  ['cgroup', { groups: { ...PI4.groups, kill: false } }, 'warning', 'cgroup.kill', { run: expect.any(String) }],
  [
    'cgroup',
    { groups: { ...PI4.groups, writable: false } },
    'warning',
    'cannot make groups below',
    { do: expect.any(String) },
  ],
  ['board', board({ chpi: 'x' }), 'problem', 'chpi', { do: 'write "chip"' }],
  [
    'board',
    { board: { file: '/b.json', text: null, error: 'ENOENT' } },
    'warning',
    'no board file',
    { run: 'medulla board new --model pi4 /b.json' },
  ],
])('%s: %o', (about, changed, severity, found, fix) => {
  const [first, ...others] = faults(changed)
  expect(others).toEqual([])
  expect(first).toMatchObject({ about, severity, found: expect.stringContaining(found) })
  expect(first?.fix[0]).toEqual(fix)
})

test('an unprivileged user gets the groups of the closed devices as a fix, and the hint that confinement needs root', () => {
  const findings = faults({
    user: { uid: 1000, name: 'pi', groups: ['pi', 'spi'] },
    chips: closed(PI4.chips),
    i2c: closed(PI4.i2c),
    confine: { ok: false, why: 'this process has no CAP_SYS_ADMIN', fix: 'start the runtime as root' },
  })
  expect(findings).toMatchObject([
    { about: 'user', fix: [{ run: 'sudo usermod -aG gpio,i2c pi' }, { do: 'log in again' }] },
    { about: 'confine', severity: 'problem', fix: [{ run: 'sudo medulla doctor' }, { write: '"unconfined": true' }] },
  ])
})

test('a line that the running runtime of this home holds is not a problem', () => {
  const chips = [{ ...header, used: { 17: 'medulla:led' } }]
  expect(faults({ chips, home: { ...PI4.home, running: 77 } })).toEqual([])
})

test("the header's PWM chip of a Pi 5 is found by its device, as its number differs in kernel 6.6", () => {
  const pi5 = {
    model: 'Raspberry Pi 5 Model B Rev 1.0',
    chips: [{ ...header, label: 'pinctrl-rp1', lines: 54 }],
    pwm: [pwmchip(0, '107d517a80.pwm'), pwmchip(2, '1f00098000.pwm')],
  }
  expect(faults({ ...pi5, ...board({ model: 'pi5' }) })).toMatchObject([
    { about: 'pwm', fix: [{ write: '"channel": { "chip": 2, "channel": 2 }' }] },
  ])
  const servo = { ...BOARD.handles.servo, channel: { chip: 2, channel: 2 } }
  expect(faults({ ...pi5, ...board({ model: 'pi5' }, { servo }) })).toEqual([])
})

test('on a laptop the doctor warns that it is not a Pi and suggests medulla sim', () => {
  const laptop = {
    arch: 'x64',
    model: null,
    throttled: null,
    ...{ chips: [], i2c: [], spi: [], serial: [], pwm: [] },
    board: { file: '/b.json', text: null, error: 'ENOENT' },
  }
  const findings = faults(laptop)
  expect(findings[0]).toMatchObject({ about: 'model', fix: [{ run: 'medulla sim' }] })
  expect(findings[0]?.found).toContain('not a Raspberry Pi')
  expect(findings.map(({ severity }) => severity)).not.toContain('problem')
  expect(JSON.stringify(findings)).not.toContain('raspi-config')
  // a Pi's board file is a problem on a laptop
  expect(faults({ ...laptop, ...board({}) }).filter(({ severity }) => severity === 'problem')).not.toEqual([])
  // a simulated board is not
  const simulated = JSON.stringify({ model: 'sim', handles: LED })
  expect(faults({ ...laptop, board: { ...PI4.board, text: simulated } })).toEqual([])
  expect(faults({ platform: 'darwin' })[0]).toMatchObject({ about: 'kernel', fix: [{ run: 'medulla sim' }] })
})

test('every problem of a machine without devices has a fix', () => {
  const { findings } = judge({
    ...PI4,
    kernel: '4.19.0',
    ...{ chips: [], i2c: [], spi: [], serial: [], pwm: [] },
    modules: { koffi: 'x', 'i2c-bus': 'x', onoff: 'x', epoll: 'x', pigpio: 'x' },
  })
  const problems = findings.filter(({ severity }) => severity === 'problem')
  expect(problems.length).toBeGreaterThan(5)
  expect(problems.filter(({ fix }) => fix.length === 0)).toEqual([])
})

test.each([
  ['Raspberry Pi 5 Model B Rev 1.0', 'pi5'],
  ['Raspberry Pi 500 Rev 1.0', 'pi5'],
  ['Raspberry Pi Compute Module 5 Lite Rev 1.0', 'pi5'],
  ['Raspberry Pi 4 Model B Rev 1.4', 'pi4'],
  ['Raspberry Pi 400 Rev 1.0', 'pi4'],
  ['Raspberry Pi Compute Module 4 Rev 1.1', 'pi4'],
  ['Raspberry Pi 3 Model B Plus Rev 1.3', 'pi3'],
  ['Raspberry Pi Zero 2 W Rev 1.0', 'zero2w'],
  ['Raspberry Pi Zero W Rev 1.1', null],
  ['Raspberry Pi 2 Model B Rev 1.1', null],
  [null, null],
])('the device-tree model %s is the board model %s', (name, model) => {
  expect(modelOf(name)).toBe(model)
})

test("meminfo, group and cgroup files are parsed, also of a hybrid hierarchy and a container's", () => {
  expect(memoryOf('MemTotal:        3884184 kB\nMemFree: 1 kB\nMemAvailable:    3174400 kB\n')).toEqual({
    totalMb: 3793,
    availableMb: 3100,
  })
  expect(groupNames('root:x:0:\ngpio:x:986:pi\n')).toEqual(
    new Map([
      [0, 'root'],
      [986, 'gpio'],
    ]),
  )
  const hybrid =
    '31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n'
  expect(placeOfGroup(hybrid, '4:memory:/x\n0::/user.slice\n')).toEqual({
    mount: '/sys/fs/cgroup/unified',
    own: '/sys/fs/cgroup/unified/user.slice',
  })
  const container = '9 8 0:3 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n'
  expect(placeOfGroup(container, '0::/docker/ab/x\n')).toEqual({ mount: '/sys/fs/cgroup', own: '/sys/fs/cgroup/x' })
  expect(placeOfGroup('', '0::/\n')).toBeNull()
})

test('gather works on the machine that runs the tests', async () => {
  const facts = await gather({ home: '/nonexistent' })
  expect(facts).toMatchObject({ platform: process.platform, home: { there: false, running: null } })
  expect(facts.board).toMatchObject({ text: null, error: 'ENOENT' })
  expect(facts.memory.availableMb).toBeGreaterThan(0)
  expect(judge(facts).findings.length).toBeGreaterThan(10)
})

test('a DS18B20 that the kernel has found is ok, and without a temperature handle there is no finding about 1-wire', () => {
  const about = (changed: Partial<Facts>) =>
    judge({ ...PI4, ...changed }).findings.filter((finding) => finding.about === 'temperature')
  expect(about({ ...board({}, WATER), w1: ['28-0316a279f5ff', '28-000000000001'] })).toMatchObject([
    { severity: 'ok', found: '28-0316a279f5ff' },
  ])
  expect(about({})).toEqual([])
})
