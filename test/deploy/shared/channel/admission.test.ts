/** How many connections may wait, and who is closed for one more. */
import { expect, test } from 'vitest'
import { ADMISSION_LIMITS, Admission, sourceOf } from '../../../../deploy/shared/channel/admission.ts'

test('the limits of CHANNEL 5', () => {
  expect(ADMISSION_LIMITS).toEqual({
    silent: 640,
    upgraded: 384,
    handshakes: 64,
    reserved: 16,
    sessions: 32,
    sessionsEach: 16,
  })
})

test('CHANNEL 5.4: two observers with all the sessions they can have keep no owner out', () => {
  const admission = new Admission<number>(ADMISSION_LIMITS)
  const open = (connection: number, operator: string) => {
    admission.enter(connection)
    return admission.establish(connection, operator)
  }
  for (let i = 0; i < 100; i++) expect(open(i, i % 2 === 0 ? 'eve' : 'mallory').admitted).toBe(true)
  expect(admission.sessions).toBe(32)
  const { admitted, evict } = open(1000, 'ann')
  expect(admitted).toBe(true)
  expect(evict).toBeLessThan(1000)
  expect(admission.sessions).toBe(32)
  // what they open from now on costs them their own
  for (let i = 100; i < 200; i++) expect(open(i, i % 2 === 0 ? 'eve' : 'mallory').evict).not.toBe(1000)
})

test('CHANNEL 5.2: who has asked for the upgrade outlasts any number of those who have not, and the other way round', () => {
  const admission = new Admission<string>(ADMISSION_LIMITS)
  admission.enter('ann', '192.0.2.1')
  admission.upgrade('ann')
  for (let i = 0; i < 5000; i++) {
    const evicted = admission.enter(`eve ${i}`, '192.0.2.1')
    expect(evicted).toBe(i < 640 ? undefined : `eve ${i - 640}`)
  }
  expect(admission.present('ann', false)).toEqual({ admitted: true })
  const other = new Admission<string>(ADMISSION_LIMITS)
  other.enter('bob', '192.0.2.1')
  for (let i = 0; i < 5000; i++) {
    other.enter(`eve ${i}`, '192.0.2.1')
    expect(other.upgrade(`eve ${i}`)).toBe(i < 384 ? undefined : `eve ${i - 384}`)
  }
  expect(other.upgrade('bob')).toMatch(/^eve/)
  expect(other.present('bob', false)).toEqual({ admitted: true })
})

test('CHANNEL 5.2: a flood from a few addresses pushes out its own, at any stage', () => {
  const admission = new Admission<string>({
    ...ADMISSION_LIMITS,
    silent: 30,
    upgraded: 30,
    handshakes: 30,
    reserved: 0,
  })
  const friends = ['ann', 'bob', 'cid']
  for (const [i, name] of friends.entries()) admission.enter(name, `192.0.2.${i}`)
  for (const name of ['bob', 'cid']) admission.upgrade(name)
  admission.present('cid', false)
  for (let i = 0; i < 500; i++) {
    const name = `eve ${i}`
    // two networks of many addresses each
    const evicted = [
      admission.enter(name, `2001:db8:0:${i % 2}::${i.toString(16)}`),
      i % 3 > 0 ? admission.upgrade(name) : undefined,
      i % 3 > 1 ? admission.present(name, false).evict : undefined,
    ]
    for (const one of evicted) expect(one ?? 'eve').toMatch(/^eve/)
  }
  expect(admission.upgrade('ann')).toMatch(/^eve/)
  for (const name of ['ann', 'bob']) expect(admission.present(name, false)).toMatchObject({ admitted: true })
})

test('CHANNEL 5.3: strangers never take the reserved places, and the counts return to zero', () => {
  const admission = new Admission<number>(ADMISSION_LIMITS)
  const present = (connection: number, known: boolean) => {
    admission.enter(connection)
    return admission.present(connection, known)
  }
  for (let i = 0; i < 100; i++) {
    const { admitted, evict } = present(i, false)
    expect(admitted).toBe(true)
    expect(evict).toBe(i < 48 ? undefined : i - 48)
  }
  expect(admission.present(3, true)).toEqual({ admitted: false }) // evicted long ago
  for (let i = 100; i < 116; i++) expect(present(i, true)).toEqual({ admitted: true })
  expect(admission.handshakes).toBe(64)
  // more known keys: strangers leave for them, and only then known ones
  for (let i = 116; i < 164; i++) expect(present(i, true)).toEqual({ admitted: true, evict: i - 64 })
  expect(present(164, true)).toEqual({ admitted: true, evict: 100 })
  expect(admission.handshakes).toBe(64)
  for (let i = 0; i < 200; i++) admission.leave(i)
  expect(admission.handshakes).toBe(0)
})

test('the source of a connection: an IPv4 address, or the network of an IPv6 address', () => {
  expect(sourceOf('192.0.2.7')).toBe('192.0.2.7')
  expect(sourceOf('::ffff:192.0.2.7')).toBe('192.0.2.7')
  expect(sourceOf('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2')
  expect(sourceOf('2001:db8::6')).toBe('2001:db8:0:0')
  expect(sourceOf('fe80::1%wlan0')).toBe('fe80:0:0:0')
  expect(sourceOf('::1')).toBe('0:0:0:0')
  expect(sourceOf('')).toBe('')
})
