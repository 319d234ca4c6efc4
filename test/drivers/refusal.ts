import { HardwareError } from '../../drivers/errors.ts'

/** The HardwareError that `work` throws; anything else fails the test. */
export function refusal(work: () => unknown): HardwareError {
  try {
    work()
  } catch (error) {
    if (error instanceof HardwareError) return error
    throw error
  }
  throw new Error('expected a refusal')
}
