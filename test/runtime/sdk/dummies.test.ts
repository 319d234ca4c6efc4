/** The dummy handles that a program gets in a rehearsal. */
import { closeSync, fstatSync, openSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterAll, expect, onTestFinished, test, vi } from 'vitest'
import type { Grant, HandleByKind, I2cDevice, Lease } from '../../../drivers/program/handle.ts'
import type { System } from '../../../drivers/program/inherit/system.ts'
import { paperHandle, rehearsalHandles, ZeroBroker } from '../../../runtime/sdk/dummies.ts'
import { FD } from '../../../runtime/sdk/wire.ts'
import { temporary } from '../../drivers/host.ts'

const folder = temporary()
afterAll(() => folder.remove())

const lease: Lease = { live: true, fence: 0 }
const ADC = { chip: 'ads1115', channel: 1, fullScale: 2.048 } as const
const grants: Grant[] = [
  { name: 'imu', id: 1, kind: 'i2c', via: 'inherit', fd: 11, encoding: 'i2c', address: 0x68 },
  { name: 'adc', id: 2, kind: 'spi', via: 'inherit', fd: 12, encoding: 'spi' },
  { name: 'gps', id: 3, kind: 'serial', via: 'inherit', fd: 13, encoding: 'serial' },
  { name: 'led', id: 4, kind: 'output', via: 'inherit', fd: 14, encoding: 'line' },
  { name: 'pot', id: 5, kind: 'analog', via: 'inherit', fd: 15, encoding: 'i2c', address: 0x48, adc: ADC },
  { name: 'arm', id: 6, kind: 'servo', via: 'broker', min: 0, max: 90, slew: 9, value: 30 },
  { name: 'tty', id: 7, kind: 'serial', via: 'inherit', fd: 17, encoding: 'pty' },
  { name: 'far', id: 8, kind: 'analog', via: 'broker', address: 0x48, adc: ADC },
]

function rehearsal() {
  const requests: number[] = []
  const system: System = {
    ioctl(fd, request) {
      expect(fd).toBe(FD.scratch)
      requests.push(request)
      return 0
    },
    address: () => 0n,
  }
  const broker = new ZeroBroker(null)
  const handles = rehearsalHandles(grants, lease, broker, system)
  const get = <K extends keyof HandleByKind>(name: string) => handles.get(name) as HandleByKind[K]
  return {
    broker,
    requests,
    imu: get<'i2c'>('imu'),
    adc: get<'spi'>('adc'),
    gps: get<'serial'>('gps'),
    led: get<'output'>('led'),
    pot: get<'analog'>('pot'),
    arm: get<'servo'>('arm'),
    tty: get<'serial'>('tty'),
    far: get<'analog'>('far'),
  }
}

test('HANDLES 12.15: reads return zeros, writes are dropped, and relying on a zero is recorded', () => {
  const { broker, imu, adc, gps, led, requests } = rehearsal()
  led.write(1)
  imu.write(Uint8Array.of(1, 2))
  gps.write(Uint8Array.of(1))
  expect(gps.read(100)).toEqual(new Uint8Array(0))
  expect(broker.asked).toBe(false)
  expect(imu.read(3)).toEqual(new Uint8Array(3))
  expect(broker.asked).toBe(true)
  expect(imu.address).toBe(0x68)
  expect(imu.writeRead(Uint8Array.of(0x75), 2)).toEqual(new Uint8Array(2))
  expect(imu.writeRead(Uint8Array.of(1, 2), 40)).toEqual(new Uint8Array(40))
  expect(adc.transfer(Uint8Array.of(1, 2, 3))).toEqual(new Uint8Array(3))
  expect(requests).toHaveLength(4)
  for (const handle of [imu, adc, gps]) handle.close()
})

test.each(['imu', 'adc'] as const)('a read from %s counts as relied on', (name) => {
  const { broker, imu, adc } = rehearsal()
  if (name === 'imu') imu.writeRead(Uint8Array.of(0), 1)
  else adc.transfer(Uint8Array.of(0))
  expect(broker.asked).toBe(true)
})

test('HANDOVER 4.2: HANDLES 12.15: no granted descriptor is used, whatever the number of the scratch file', () => {
  const fd = openSync(join(folder.path, 'scratch'), 'w+')
  const { imu, gps } = rehearsal()
  imu.write(new Uint8Array(100))
  gps.write(new Uint8Array(100))
  imu.close()
  expect(fstatSync(fd).size).toBe(0)
  closeSync(fd)
})

test('HANDLES 12.15: an analog input reads 0 V without waiting, and that counts as relied on', () => {
  for (const name of ['pot', 'far'] as const) {
    const { broker, [name]: input } = rehearsal()
    expect(input.read()).toBe(0)
    expect(broker.asked).toBe(true)
  }
})

test('HANDLES 15.6: a slewed servo leaves no timer, and a simulated serial line is silent', () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const { broker, arm, tty } = rehearsal()
  expect([arm.value, arm.range]).toEqual([30, [0, 90]])
  tty.write(Uint8Array.of(1))
  expect(tty.read(10)).toEqual(new Uint8Array(0))
  expect(broker.asked).toBe(false)
  arm.write(90)
  expect(arm.value).toBeLessThan(31)
  const value = arm.value
  vi.advanceTimersByTime(1000)
  expect([arm.value, vi.getTimerCount()]).toEqual([value, 0])
})

test('a paper handle has the methods of its kind', () => {
  expect((paperHandle('imu', 'i2c') as I2cDevice).writeRead(Uint8Array.of(1), 2)).toEqual(new Uint8Array(2))
  expect((paperHandle('adc', 'spi') as HandleByKind['spi']).transfer(Uint8Array.of(1))).toEqual(new Uint8Array(1))
  const gps = paperHandle('gps', 'serial') as HandleByKind['serial']
  gps.write(Uint8Array.of(1))
  expect(gps.read(10)).toEqual(new Uint8Array(0))
  expect((paperHandle('arm', 'servo') as HandleByKind['servo']).range).toEqual([0, 180])
  const web = paperHandle('web', 'listen') as HandleByKind['listen']
  web.serve(createServer())
  expect(web.port).toBe(null)
  expect((paperHandle('pot', 'analog') as HandleByKind['analog']).read()).toBe(0)
})
