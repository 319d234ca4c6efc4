/** A made-up Pi without a fault, and its board file. */
import type { Facts } from '../../../runtime/doctor/facts.ts'

export const node = (path: string, group = 'gpio') => ({ path, open: true, group })

export const BOARD = {
  model: 'pi4',
  handles: {
    led: { kind: 'output', line: 'GPIO17' },
    button: { kind: 'input', line: 'GPIO27', pull: 'down' },
    servo: { kind: 'pwm', line: 'GPIO18', frequencyHz: 50 },
    imu: { kind: 'i2c', bus: 1, address: '0x68' },
    display: { kind: 'spi', bus: 0, select: 0 },
    gps: { kind: 'serial', path: '/dev/serial0', baud: 9600 },
  },
}

/** A Pi 4 with every device that BOARD needs. */
export const PI4: Facts = {
  host: 'arm',
  platform: 'linux',
  arch: 'arm64',
  kernel: '6.12.25+rpt-rpi-v8',
  model: 'Raspberry Pi 4 Model B Rev 1.4',
  user: { uid: 0, name: 'root', groups: ['root'] },
  node: { version: '22.12.0', path: '/usr/bin/node', closed: null },
  chips: [
    { ...node('/dev/gpiochip0'), label: 'pinctrl-bcm2711', lines: 58, used: { 42: 'ACT' } },
    { ...node('/dev/gpiochip1'), label: 'raspberrypi-exp-gpio', lines: 8, used: {} },
  ],
  sysfsGpio: false,
  i2c: [node('/dev/i2c-1', 'i2c')],
  i2cDrivers: {},
  spi: [node('/dev/spidev0.0', 'spi'), node('/dev/spidev0.1', 'spi')],
  serial: [{ ...node('/dev/serial0', 'dialout'), target: '/dev/ttyAMA0' }],
  w1: null,
  pwm: [{ ...node('/sys/class/pwm/pwmchip0/export'), number: 0, channels: 2, device: 'fe20c000.pwm' }],
  modules: { koffi: null, 'i2c-bus': null, onoff: 'absent', epoll: 'absent', pigpio: 'absent' },
  noTools: [],
  bwrap: false,
  confine: { ok: true },
  groups: {
    mount: '/sys/fs/cgroup',
    controllers: ['cpu', 'memory', 'pids'],
    own: '/sys/fs/cgroup/system.slice/medulla.service',
    ownControllers: ['memory', 'pids'],
    writable: true,
    kill: true,
  },
  cmdline: 'coherent_pool=1M console=tty1 root=PARTUUID=0 rootwait cgroup_enable=memory',
  firmware: '/boot/firmware',
  throttled: 0,
  clockSet: true,
  realtime: { works: true, runtimeUs: 950_000, preemptRt: false },
  memory: { totalMb: 3792, availableMb: 3100 },
  home: { dir: '/var/lib/medulla', there: true, closed: false, running: null, pairing: null },
  service: { installed: true, missing: null },
  board: { file: '/b.json', text: JSON.stringify(BOARD), error: '' },
}

/** The facts about another board file: BOARD with these keys, and these handles. */
export function board(more: object, handles: object = BOARD.handles): Pick<Facts, 'board'> {
  return { board: { ...PI4.board, text: JSON.stringify({ ...BOARD, handles, ...more }) } }
}
