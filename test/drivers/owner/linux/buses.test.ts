/** Buses and PWM without hardware; serial lines are in serial.test.ts, tests with a kernel of our own in test/kernel/buses.rig.ts. */

import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { I2cEntry, PwmEntry, SerialEntry, ServoEntry, SpiEntry } from '../../../../drivers/board/types.ts'
import type { OpenContext } from '../../../../drivers/owner/linux/device.ts'
import { openI2c } from '../../../../drivers/owner/linux/i2c.ts'
import { loadPigpio, openPigpio, type Pigpio } from '../../../../drivers/owner/linux/pigpio.ts'
import { openPwm } from '../../../../drivers/owner/linux/pwm.ts'
import { openSerial } from '../../../../drivers/owner/linux/serial.ts'
import { openServo } from '../../../../drivers/owner/linux/servo.ts'
import { openSpi } from '../../../../drivers/owner/linux/spi.ts'
import { openFds, temporary } from '../../host.ts'
import { refusal } from '../../refusal.ts'
import { context } from './context.ts'

const onLinux = process.platform === 'linux'
const folder = temporary()
afterAll(() => folder.remove())

describe.runIf(onLinux)('a missing device', () => {
  test('i2c: the error names the bus and how to enable it, and no descriptor stays open', () => {
    const before = openFds()
    const { kind, message } = refusal(() => openI2c(context<I2cEntry>('pi4', { kind: 'i2c', bus: 31, address: 104 })))
    // the package is not compiled here: its error comes first
    if (kind === 'unsupported') return expect(message).toMatch(/i2c-bus/)
    expect(kind).toBe('no-device')
    expect(message).toMatch(/^it: i2c-31 is not there: add dtparam=i2c_arm=on/)
    expect(openFds()).toBe(before)
  })

  test('spi', () => {
    const { kind, message } = refusal(() => openSpi(context<SpiEntry>('pi4', { kind: 'spi', bus: 31, select: 7 })))
    expect([kind, message.slice(0, 30)]).toEqual(['no-device', 'it: spidev31.7 is not there: a'])
  })

  test('serial', () => {
    const entry = { kind: 'serial', path: '/dev/ttyGhost0', baud: 9600 }
    const { kind, message } = refusal(() => openSerial(context<SerialEntry>('pi4', entry)))
    expect([kind, message.slice(0, 29)]).toEqual(['no-device', 'it: ttyGhost0 is not there: e'])
  })

  test('a file that is no terminal is refused', () => {
    const before = openFds()
    const { kind, message } = refusal(() =>
      openSerial(context<SerialEntry>('pi4', { kind: 'serial', path: '/dev/null', baud: 9600 })),
    )
    expect(kind).toBe('unsupported')
    expect(message).toMatch(/^it: \/dev\/null cannot be set up: stty: /)
    expect(openFds()).toBe(before)
  })
})

/** A folder with the files of sysfs; the files show the last writes and their order. */
function chip(name: string, channel: Record<string, string> | null): { root: string; read(file: string): string } {
  const root = join(folder.path, name)
  const at = join(root, 'pwmchip0', 'pwm1')
  mkdirSync(join(root, 'pwmchip0'), { recursive: true })
  writeFileSync(join(root, 'pwmchip0', 'npwm'), '2\n')
  writeFileSync(join(root, 'pwmchip0', 'export'), '')
  if (channel !== null) {
    mkdirSync(at)
    for (const [file, text] of Object.entries(channel)) writeFileSync(join(at, file), text)
  }
  return { root, read: (file) => readFileSync(join(at, file), 'latin1').trim() }
}

describe.runIf(onLinux)('a PWM of the kernel', () => {
  const entry = { kind: 'pwm', line: 13, frequencyHz: 50, initial: 0.075 }
  const off = { period: '0\n', duty_cycle: '0\n', enable: '0\n', polarity: 'normal\n' }
  const open = (root: string) => openPwm(context<PwmEntry>('pi4', entry), root)

  test('HANDLES 12.6: a channel gets its period, then its duty cycle, then is enabled', () => {
    const before = openFds()
    const { root, read } = chip('new', off)
    const opened = open(root)
    expect(['period', 'duty_cycle', 'enable'].map(read)).toEqual(['20000000', '1500000', '1'])
    expect(opened.value?.()).toBe(0.075)
    opened.drive?.(0.05)
    expect(read('duty_cycle')).toBe('1000000')
    expect(opened.source).toMatchObject({ via: 'inherit', encoding: 'text' })
    opened.close()
    expect(openFds()).toBe(before)
  })

  test('HANDLES 1.5: a servo is driven with its pulse', () => {
    const { root, read } = chip('servo', off)
    const servo = { kind: 'servo', line: 13, minUs: 1000, maxUs: 2000, degrees: [-90, 90], initial: 0 }
    const opened = openServo(context<ServoEntry>('pi4', servo), (pwm) => openPwm(pwm, root))
    expect(['period', 'duty_cycle', 'enable'].map(read)).toEqual(['20000000', '1500000', '1'])
    opened.drive?.(45)
    expect([read('duty_cycle'), opened.value?.()]).toEqual(['1750000', 45])
    opened.close()
  })

  test('HANDLES 12.7: a channel that runs at its period gets only a duty cycle', () => {
    const running = { period: '20000000\n', duty_cycle: '1111111\n', enable: '1\n', polarity: 'normal\n' }
    const { root, read } = chip('running', running)
    // a write would replace the text by a number without a sign
    writeFileSync(join(root, 'pwmchip0', 'pwm1', 'enable'), '1')
    const before = readFileSync(join(root, 'pwmchip0', 'pwm1', 'enable'))
    open(root).close()
    expect(readFileSync(join(root, 'pwmchip0', 'pwm1', 'enable'))).toEqual(before)
    expect(read('duty_cycle')).toBe('1500000')
  })

  test('a channel that runs at another period is disabled first', () => {
    const { root, read } = chip('other', {
      period: '1000000\n',
      duty_cycle: '5\n',
      enable: '1\n',
      polarity: 'inversed\n',
    })
    open(root).close()
    expect(['period', 'duty_cycle', 'enable', 'polarity'].map(read)).toEqual(['20000000', '1500000', '1', 'normal'])
  })

  test('HANDLES 3.9: an adopted channel is not opened, written or configured', () => {
    const { root, read } = chip('kept', off)
    const fd = openSync(join(root, 'pwmchip0', 'pwm1', 'duty_cycle'), 'r+')
    const opened = openPwm({ ...context<PwmEntry>('pi4', entry), kept: { fds: [fd], fence: 3 } }, join(root, 'nowhere'))
    expect(read('duty_cycle')).toBe('0')
    opened.drive?.(0.5)
    expect(read('duty_cycle')).toBe('10000000')
    opened.close()
  })

  test('a missing chip, and a missing channel', () => {
    const { root } = chip('absent', null)
    const nowhere = refusal(() => openPwm(context<PwmEntry>('pi4', entry), join(root, 'nowhere')))
    expect([nowhere.kind, nowhere.message]).toEqual([
      'no-device',
      expect.stringMatching(/^it: pwm1 is not there: add its overlay/),
    ])
    // this export makes no channel, so the wait for it times out
    expect(refusal(() => open(root)).kind).toBe('no-device')
    expect(readFileSync(join(root, 'pwmchip0', 'export'), 'latin1')).toBe('1')
  })
})

describe.runIf(onLinux)('pigpio', () => {
  const entry = (line: number, frequencyHz = 50) => ({ kind: 'pwm', line, frequencyHz, driver: 'pigpio', initial: 0.5 })
  const open = (line: number, frequencyHz: number | undefined, package_: () => Pigpio) =>
    openPigpio(context<PwmEntry>('pi4', entry(line, frequencyHz)), package_)

  /** The documented interface of the package, without hardware. */
  function recorded(nearest = 50): { calls: unknown[]; package_: () => Pigpio } {
    const calls: unknown[] = []
    const note =
      (name: string) =>
      (...args: number[]) =>
        calls.push([name, ...args])
    class Gpio {
      static readonly OUTPUT = 1
      hardwarePwmWrite = note('hardwarePwmWrite')
      pwmRange = note('pwmRange')
      pwmFrequency = note('pwmFrequency')
      pwmWrite = note('pwmWrite')
      constructor(gpio: number, options: { mode: number }) {
        calls.push([gpio, options])
      }
      getPwmFrequency(): number {
        return nearest
      }
    }
    return { calls, package_: () => ({ Gpio }) }
  }

  test('a line with hardware PWM uses it', () => {
    const { calls, package_ } = recorded()
    const opened = open(18, 333, package_)
    opened.drive?.(0.25)
    expect(calls).toEqual([
      [18, { mode: 1 }],
      ['hardwarePwmWrite', 333, 500_000],
      ['hardwarePwmWrite', 333, 250_000],
    ])
    expect([opened.value?.(), opened.source, opened.fds]).toEqual([0.25, { via: 'broker' }, []])
  })

  test('any other line uses DMA, at a frequency that pigpio has', () => {
    const { calls, package_ } = recorded()
    open(4, 50, package_)
    expect(calls.slice(1)).toEqual([
      ['pwmFrequency', 50],
      ['pwmRange', 10_000],
      ['pwmWrite', 5000],
    ])
    const { kind, message } = refusal(() => open(4, 60, recorded(50).package_))
    expect([kind, message]).toEqual([
      'unsupported',
      'it: expected a frequency that pigpio has on this line, got 60: write 50',
    ])
  })

  test('HANDLES 12.9: a library that does not start is reported, and adoption is refused', () => {
    const broken = () => {
      class Gpio {
        static readonly OUTPUT = 1
        constructor() {
          throw new Error('pigpio error -1 in gpioInitialise')
        }
      }
      return { Gpio } as unknown as Pigpio
    }
    const { kind, message } = refusal(() => open(18, 50, broken))
    expect([kind, message]).toEqual(['other', expect.stringMatching(/gpioInitialise.*it needs root/)])
    const kept = { ...context<PwmEntry>('pi4', entry(18)), kept: { fds: [], fence: 1 } }
    expect(refusal(() => openPigpio(kept, recorded().package_)).kind).toBe('unsupported')
  })

  test('on a Pi 5 the error says what to use instead', () => {
    const given: OpenContext<PwmEntry> = { ...context<PwmEntry>('pi4', entry(18)), board: { model: 'pi5' } }
    expect(refusal(() => openPigpio(given, recorded().package_)).message).toBe(
      'it: pigpio does not run on a board of model pi5; use "driver": "kernel" on GPIO12, GPIO13, GPIO18, GPIO19, or a PCA9685 on i2c',
    )
  })

  test('without the C library the error says so', (task) => {
    try {
      loadPigpio('it', 'pi4')
    } catch (error) {
      expect(error).toMatchObject({
        kind: 'unsupported',
        message: expect.stringMatching(
          /^it: pigpio is not installed.*use "driver": "kernel" on GPIO12.*PCA9685 on i2c$/,
        ),
      })
      return
    }
    task.skip('this computer has pigpio')
  })
})
