/** The suite that every way to a handle has to pass, here with the lines of a kernel. */
import '../drivers/contract.test.ts'
