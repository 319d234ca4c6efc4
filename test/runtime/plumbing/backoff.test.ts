import { expect, test } from 'vitest'
import { Backoff } from '../../../runtime/plumbing/backoff.ts'

test('a wait doubles with each failure up to the limit, and a reset begins again', () => {
  const backoff = new Backoff(100, 700)
  const waits = () => Array.from({ length: 5 }, () => backoff.nextMs())
  expect(waits()).toEqual([100, 200, 400, 700, 700])
  backoff.reset()
  expect(waits()).toEqual([100, 200, 400, 700, 700])
})

test('thousands of failures wait no longer than the limit', () => {
  const backoff = new Backoff(100, 10_000)
  for (let failure = 0; failure < 3000; failure++) backoff.nextMs()
  expect(backoff.nextMs()).toBe(10_000)
})

test('a limit below the first wait holds', () => {
  expect(new Backoff(100, 50).nextMs()).toBe(50)
})
