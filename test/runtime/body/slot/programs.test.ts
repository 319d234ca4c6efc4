import { expect, test } from 'vitest'
import { Programs } from '../../../../runtime/body/slot/programs.ts'
import type { Running } from '../../../../runtime/body/slot/running.ts'

const ENV = {} as ConstructorParameters<typeof Programs>[1]
const SAYS = {
  next: ['ready', 'started', 'preloaded', 'armed', 'took', 'next-orphaned'],
  current: ['copied', 'yielded', 'resumed', 'unhealthy'],
} as const

test('HANDOVER 3.8: a message counts only from the program whose place it is to send it', () => {
  const programs = new Programs('main', ENV, () => {})
  const [current, next, old, gone] = [{}, {}, {}, {}] as Running[]
  Object.assign(programs, { current, next, old })
  const from = { current, next, old, gone } as Record<string, Running>
  for (const [speaker, events] of Object.entries(SAYS)) {
    for (const event of events) {
      const heard = Object.keys(from).filter((role) => programs.event(event, from[role] as Running, null) === event)
      expect(heard, event).toEqual([speaker])
    }
  }
})

test('an exit and a failure are of the role that the program has when they are handled', () => {
  const programs = new Programs('main', ENV, () => {})
  const [one, two] = [{}, {}] as [Running, Running]
  Object.assign(programs, { current: one, next: two })
  const ends = () => [programs.event('died', one, null), programs.event('died', two, null)]
  expect(ends()).toEqual(['current-died', 'next-died'])
  Object.assign(programs, { current: two, next: null, old: one })
  expect(ends()).toEqual(['old-died', 'current-died'])
  expect(programs.event('failed', one, null)).toBe(null)
  expect(programs.event('failed', two, null)).toBe('current-failed')
  Object.assign(programs, { current: null, old: null })
  expect(ends()).toEqual([null, null])
})
