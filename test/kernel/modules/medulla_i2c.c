// SPDX-License-Identifier: GPL-2.0
/*
 * Two raw I2C adapters, i2c-1 and i2c-2, with a few chips that are register files. An address where no chip is answers
 * with ENXIO, as on a real bus. Every chip counts what reaches it, in debugfs:
 *
 *   medulla_i2c/BUS-ADDR/transfers   i2c_transfer calls with a message for it
 *   medulla_i2c/BUS-ADDR/reads       bytes read
 *   medulla_i2c/BUS-ADDR/writes      registers written
 *   medulla_i2c/BUS-ADDR/inits       writes to a register that only an initialisation writes
 *   medulla_i2c/BUS-ADDR/nack        how many of the next transfers it does not acknowledge
 *   medulla_i2c/BUS-ADDR/stretch_ms  how long each of its transfers takes, until it is 0; who waits for it cannot be
 *                                    interrupted
 *   medulla_i2c/BUS-ADDR/registers   the register file
 *
 * Counters are set to nought by writing 0.
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/i2c.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/string.h>

#define FIRST_BUS 1
#define BUSES 2
#define FILE_SIZE 4096
#define STRETCH_STEP_MS 20

struct preset {
	u16 reg;
	u8 value;
};

struct chip {
	const char *model;
	u8 bus;
	u8 address;
	/* bytes of a register number, and how many registers there are: a power of two */
	u8 width;
	u16 size;
	struct preset presets[4];
	/* registers that only an initialisation writes */
	u16 init[4];
	u8 inits_known;
	/* a write of (value & mask) to the reset register puts the presets back; mask 0: there is none */
	u16 reset_reg;
	u8 reset_mask;

	u16 pointer;
	u8 *regs;
	struct debugfs_blob_wrapper blob;
	u32 transfers, reads, writes, inits, nack, stretch_ms;
};

#define MPU6050(on, at) { \
	.model = "mpu6050", .bus = on, .address = at, .width = 1, .size = 256, \
	.presets = { { 0x75, 0x68 }, { 0x6b, 0x40 } }, \
	.init = { 0x6b }, .inits_known = 1, .reset_reg = 0x6b, .reset_mask = 0x80 }

static struct chip chips[] = {
	MPU6050(1, 0x68),
	MPU6050(2, 0x69),
	{
		.model = "pca9685", .bus = 1, .address = 0x40, .width = 1, .size = 256,
		.presets = { { 0x00, 0x11 }, { 0x01, 0x04 }, { 0xfe, 0x1e } },
		.init = { 0x00, 0x01, 0xfe }, .inits_known = 3,
	},
	{
		.model = "bme280", .bus = 1, .address = 0x76, .width = 1, .size = 256,
		.presets = { { 0xd0, 0x60 }, { 0xf7, 0x80 }, { 0xfa, 0x80 }, { 0xfd, 0x80 } },
		.init = { 0xe0, 0xf2, 0xf4, 0xf5 }, .inits_known = 4, .reset_reg = 0xe0, .reset_mask = 0xff,
	},
	{ .model = "24c32", .bus = 2, .address = 0x50, .width = 2, .size = FILE_SIZE },
};

static DEFINE_MUTEX(lock);
static u8 files[ARRAY_SIZE(chips)][FILE_SIZE];
static struct dentry *root;

static void preset(struct chip *chip)
{
	int i;

	memset(chip->regs, 0, chip->size);
	for (i = 0; i < ARRAY_SIZE(chip->presets); i++)
		if (chip->presets[i].value)
			chip->regs[chip->presets[i].reg] = chip->presets[i].value;
}

static void put(struct chip *chip, u8 value)
{
	u16 reg = chip->pointer;
	int i;

	chip->regs[reg] = value;
	chip->pointer = (reg + 1) & (chip->size - 1);
	chip->writes++;
	for (i = 0; i < chip->inits_known; i++)
		if (chip->init[i] == reg)
			chip->inits++;
	if (chip->reset_mask && reg == chip->reset_reg && (value & chip->reset_mask))
		preset(chip);
}

static void take(struct chip *chip, const struct i2c_msg *msg)
{
	int i;

	if (msg->flags & I2C_M_RD) {
		for (i = 0; i < msg->len; i++) {
			msg->buf[i] = chip->regs[chip->pointer];
			chip->pointer = (chip->pointer + 1) & (chip->size - 1);
			chip->reads++;
		}
		return;
	}
	if (msg->len < chip->width)
		return;
	chip->pointer = chip->width == 1 ? msg->buf[0] : msg->buf[0] << 8 | msg->buf[1];
	chip->pointer &= chip->size - 1;
	for (i = chip->width; i < msg->len; i++)
		put(chip, msg->buf[i]);
}

static struct chip *find(int bus, u16 address)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(chips); i++)
		if (chips[i].bus == bus && chips[i].address == address)
			return &chips[i];
	return NULL;
}

static int transfer(struct i2c_adapter *adapter, struct i2c_msg *msgs, int count)
{
	struct chip *chip, *last = NULL;
	int i, result = count;
	u32 waited;

	mutex_lock(&lock);
	for (i = 0; i < count; i++) {
		chip = find(adapter->nr, msgs[i].addr);
		if (chip && chip != last && chip->nack) {
			chip->nack--;
			chip = NULL;
		}
		if (!chip) {
			result = -ENXIO;
			break;
		}
		if (chip != last)
			chip->transfers++;
		last = chip;
		take(chip, &msgs[i]);
	}
	mutex_unlock(&lock);
	/* whoever waits is let go when it is set to nought */
	for (waited = 0; last && waited < READ_ONCE(last->stretch_ms); waited += STRETCH_STEP_MS)
		msleep(STRETCH_STEP_MS);
	return result;
}

static u32 functionality(struct i2c_adapter *adapter)
{
	return I2C_FUNC_I2C | I2C_FUNC_SMBUS_EMUL;
}

static const struct i2c_algorithm algorithm = {
	.master_xfer = transfer,
	.functionality = functionality,
};

static struct i2c_adapter adapters[BUSES];

static void expose(struct chip *chip)
{
	struct dentry *folder;
	char name[16];

	snprintf(name, sizeof(name), "%u-%04x", chip->bus, chip->address);
	folder = debugfs_create_dir(name, root);
	debugfs_create_u32("transfers", 0644, folder, &chip->transfers);
	debugfs_create_u32("reads", 0644, folder, &chip->reads);
	debugfs_create_u32("writes", 0644, folder, &chip->writes);
	debugfs_create_u32("inits", 0644, folder, &chip->inits);
	debugfs_create_u32("nack", 0644, folder, &chip->nack);
	debugfs_create_u32("stretch_ms", 0644, folder, &chip->stretch_ms);
	debugfs_create_str("model", 0444, folder, (char **)&chip->model);
	chip->blob.data = chip->regs;
	chip->blob.size = chip->size;
	debugfs_create_blob("registers", 0644, folder, &chip->blob);
}

static int __init medulla_i2c_init(void)
{
	int i, error;

	root = debugfs_create_dir("medulla_i2c", NULL);
	for (i = 0; i < ARRAY_SIZE(chips); i++) {
		chips[i].regs = files[i];
		preset(&chips[i]);
		expose(&chips[i]);
	}
	for (i = 0; i < BUSES; i++) {
		adapters[i].owner = THIS_MODULE;
		adapters[i].algo = &algorithm;
		adapters[i].nr = FIRST_BUS + i;
		snprintf(adapters[i].name, sizeof(adapters[i].name), "medulla test bus %d", FIRST_BUS + i);
		error = i2c_add_numbered_adapter(&adapters[i]);
		if (error)
			goto undo;
	}
	return 0;

undo:
	while (i-- > 0)
		i2c_del_adapter(&adapters[i]);
	debugfs_remove(root);
	return error;
}

static void __exit medulla_i2c_exit(void)
{
	int i;

	for (i = 0; i < BUSES; i++)
		i2c_del_adapter(&adapters[i]);
	debugfs_remove(root);
}

module_init(medulla_i2c_init);
module_exit(medulla_i2c_exit);
MODULE_DESCRIPTION("I2C adapters with simulated chips, for tests");
MODULE_LICENSE("GPL");
