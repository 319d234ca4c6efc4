import koffi from 'koffi'
import { expect, test } from 'vitest'
import { isClockSynchronised } from '../../runtime/plumbing/clock.ts'

const STA_UNSYNC = 0x40

test('BUNDLE 10.13: the clock counts as synchronised when the kernel reports an error of less than 16 s', () => {
  // adjtimex(2), with the compiler's layout of the structure
  koffi.struct('timex', {
    modes: 'uint',
    offset: 'long',
    freq: 'long',
    maxerror: 'long',
    esterror: 'long',
    status: 'int',
    rest: koffi.array('uint8_t', 256),
  })
  const adjtimex = koffi.load('libc.so.6').func('int adjtimex(_Inout_ timex *timex)')
  const timex: Record<string, unknown> = { modes: 0, offset: 0, freq: 0, maxerror: 0, esterror: 0, status: 0 }
  timex.rest = new Uint8Array(256)
  expect(adjtimex(timex)).toBeGreaterThanOrEqual(0)
  expect(isClockSynchronised()).toBe(Number(timex.maxerror) < 16_000_000)
  // an unsynchronised kernel sets both error and status; chrony without rtcsync changes only the status
  if ((Number(timex.status) & STA_UNSYNC) === 0) expect(isClockSynchronised()).toBe(true)
})
