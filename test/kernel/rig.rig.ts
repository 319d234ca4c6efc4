/** Tests of the rig itself: each device answers, is counted and is traced, as the other tests assume. */
import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs'
import koffi from 'koffi'
import { afterEach, expect, test } from 'vitest'
import { eventually } from '../e2e/eventually.ts'
import {
  gpioBase,
  heldLines,
  i2cCounts,
  i2cRegisters,
  levelOf,
  nackI2c,
  pull,
  pwmRecord,
  resetI2cCounts,
  resetPwmRecord,
  spiCounts,
} from './guest.ts'
import { watchLines } from './lineinfo.ts'
import { trace } from './trace.ts'

const I2C_SLAVE = 0x0703
/** _IOWR(0xB4, 0x07, struct gpio_v2_line_request), and where its members are */
const GPIO_V2_GET_LINE = 0xc250b407
const REQUEST = { size: 592, consumer: 256, lines: 560, fd: 588 }

const libc = koffi.load('libc.so.6')
const ioctl = libc.func('int ioctl(int fd, unsigned long request, long argument)')
const ioctlBytes = libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *bytes)')

let atEnd: (() => void)[] = []
afterEach(() => {
  for (const undo of atEnd.reverse()) undo()
  atEnd = []
})

test('cgroup v2 is mounted with the controllers that confine a program', () => {
  const controllers = readFileSync('/sys/fs/cgroup/cgroup.subtree_control', 'utf8').trim().split(' ')
  expect(controllers).toEqual(expect.arrayContaining(['cpu', 'memory', 'pids']))
  expect(readFileSync('/proc/self/cgroup', 'utf8')).toBe('0::/\n')
  expect(execFileSync('chrt', ['-f', '50', 'echo', 'first'], { encoding: 'utf8' })).toBe('first\n')
})

test('gpiochip0 has the label and the 54 lines of a Pi', () => {
  const folder = `/sys/class/gpio/gpiochip${gpioBase()}`
  expect(readFileSync(`${folder}/label`, 'utf8')).toBe('pinctrl-bcm2711\n')
  expect(readFileSync(`${folder}/ngpio`, 'utf8')).toBe('54\n')
  expect(existsSync('/dev/gpiochip0')).toBe(true)
  expect(heldLines()).toEqual(new Map())
})

test('lines can be pulled from outside, and outputs are read and traced', () => {
  pull(27, 1)
  expect(levelOf(27)).toBe(1)
  pull(27, 0)
  expect(levelOf(27)).toBe(0)

  const recording = trace()
  const number = gpioBase() + 17
  writeFileSync('/sys/class/gpio/export', String(number))
  atEnd.push(() => writeFileSync('/sys/class/gpio/unexport', String(number)))
  writeFileSync(`/sys/class/gpio/gpio${number}/direction`, 'out')
  writeFileSync(`/sys/class/gpio/gpio${number}/value`, '1')
  expect(levelOf(17)).toBe(1)
  expect(heldLines()).toEqual(new Map([[17, 'sysfs']]))
  const events = recording.stop().filter(({ pid }) => pid === process.pid)
  expect(events.filter(({ what }) => what === 'level')).toEqual([
    expect.objectContaining({ line: 17, action: 'set', level: 0 }),
    expect.objectContaining({ line: 17, action: 'set', level: 1 }),
  ])
  expect(events).toContainEqual(expect.objectContaining({ what: 'export' }))
  expect(events).toContainEqual(expect.objectContaining({ what: 'open-path', path: '/sys/class/gpio/export' }))
})

test('a request and a release of a line by the character device are reported and traced', async () => {
  const watch = watchLines([22])
  atEnd.push(() => watch.close())
  const recording = trace()
  const chip = openSync('/dev/gpiochip0', 'r+')
  const request = Buffer.alloc(REQUEST.size)
  request.writeUInt32LE(22, 0)
  request.write('somebody', REQUEST.consumer)
  request.writeUInt32LE(1, REQUEST.lines)
  expect(ioctlBytes(chip, GPIO_V2_GET_LINE, request)).toBe(0)
  closeSync(chip)
  expect(heldLines()).toEqual(new Map([[22, 'somebody']]))
  closeSync(request.readInt32LE(REQUEST.fd))
  // since Linux 6.13 a work queue reports them, so later
  const changes = watch.changes()
  await eventually(() => changes.push(...watch.changes()) === 2)
  expect(changes).toMatchObject([
    { line: 22, change: 'requested', consumer: 'somebody' },
    { line: 22, change: 'released', consumer: '' },
  ])
  const ours = recording.stop().filter(({ pid }) => pid === process.pid)
  expect(ours.map(({ what }) => what)).toEqual(['open', 'request', 'release'])
})

test('an open of a device by any process is traced', () => {
  const recording = trace()
  closeSync(openSync('/dev/gpiochip0', 'r+'))
  execFileSync('dd', ['if=/dev/gpiochip0', 'count=0'], { stdio: 'ignore' })
  const opens = recording.stop().filter(({ what }) => what === 'open')
  expect(opens).toEqual([
    expect.objectContaining({ name: 'gpiochip0', pid: process.pid }),
    expect.objectContaining({ name: 'gpiochip0', process: 'dd' }),
  ])
})

test('an I2C chip answers and counts, an empty address does not', () => {
  resetI2cCounts(1, 0x68)
  const fd = openSync('/dev/i2c-1', 'r+')
  atEnd.push(() => closeSync(fd))
  expect(ioctl(fd, I2C_SLAVE, 0x68)).toBe(0)
  writeSync(fd, Uint8Array.of(0x75))
  const byte = new Uint8Array(1)
  expect(readSync(fd, byte)).toBe(1)
  expect(byte[0]).toBe(0x68)
  expect(i2cCounts(1, 0x68)).toEqual({ transfers: 2, reads: 1, writes: 0, inits: 0 })
  writeSync(fd, Uint8Array.of(0x6b, 0x01))
  expect(i2cCounts(1, 0x68)).toEqual({ transfers: 3, reads: 1, writes: 1, inits: 1 })
  expect(i2cRegisters(1, 0x68)[0x6b]).toBe(1)
  writeSync(fd, Uint8Array.of(0x6b, 0x80))
  expect(i2cRegisters(1, 0x68)[0x6b]).toBe(0x40)

  nackI2c(1, 0x68, 1)
  expect(() => writeSync(fd, Uint8Array.of(0x75))).toThrow(/ENXIO/)
  writeSync(fd, Uint8Array.of(0x75))
  expect(ioctl(fd, I2C_SLAVE, 0x13)).toBe(0)
  expect(() => writeSync(fd, Uint8Array.of(0))).toThrow(/ENXIO/)
})

test('a PWM channel records its settings', () => {
  resetPwmRecord(2)
  const recording = trace()
  const chip = '/sys/class/pwm/pwmchip0'
  writeFileSync(`${chip}/export`, '2')
  atEnd.push(() => writeFileSync(`${chip}/unexport`, '2'))
  writeFileSync(`${chip}/pwm2/period`, '1000000')
  writeFileSync(`${chip}/pwm2/duty_cycle`, '250000')
  writeFileSync(`${chip}/pwm2/enable`, '1')
  writeFileSync(`${chip}/pwm2/duty_cycle`, '500000')
  expect(pwmRecord(2)).toEqual({
    periodNs: 1_000_000,
    dutyNs: 500_000,
    enabled: true,
    inverted: false,
    applies: 4,
    periodChanges: 1,
    dutyChanges: 2,
    enabledChanges: 1,
    invertedChanges: 0,
    requests: 1,
    frees: 0,
  })
  expect(
    recording
      .stop()
      .filter(({ what }) => what === 'pwm')
      .at(-1),
  ).toMatchObject({ dutyNs: 500_000, enabled: true })
})

test('SPI is looped back', () => {
  const before = spiCounts()
  const fd = openSync('/dev/spidev0.0', 'r+')
  atEnd.push(() => closeSync(fd))
  writeSync(fd, Uint8Array.of(1, 2, 3))
  expect(spiCounts()).toEqual({ transfers: before.transfers + 1, bytes: before.bytes + 3 })
})
