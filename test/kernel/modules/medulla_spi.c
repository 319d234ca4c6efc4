// SPDX-License-Identifier: GPL-2.0
/*
 * An SPI controller whose MISO is wired to its MOSI, with /dev/spidev0.0 and /dev/spidev0.1. What is sent comes back; a
 * transfer that sends nothing reads zeros. debugfs: medulla_spi/transfers and medulla_spi/bytes, set to nought by
 * writing 0.
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/spi/spi.h>
#include <linux/string.h>

static struct platform_device *parent;
static struct spi_controller *controller;
static struct dentry *root;
static u32 transfers, bytes;

static int transfer_one(struct spi_controller *host, struct spi_device *spi, struct spi_transfer *transfer)
{
	transfers++;
	bytes += transfer->len;
	if (!transfer->rx_buf)
		return 0;
	if (transfer->tx_buf)
		memcpy(transfer->rx_buf, transfer->tx_buf, transfer->len);
	else
		memset(transfer->rx_buf, 0, transfer->len);
	return 0;
}

static int __init medulla_spi_init(void)
{
	/* one of the names that spidev goes by on a board without a device tree */
	struct spi_board_info info = { .modalias = "dh2228fv", .max_speed_hz = 50000000 };
	int i, error;

	parent = platform_device_register_simple("medulla_spi", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(parent))
		return PTR_ERR(parent);
	controller = spi_alloc_host(&parent->dev, 0);
	if (!controller) {
		error = -ENOMEM;
		goto no_controller;
	}
	controller->bus_num = 0;
	controller->num_chipselect = 2;
	controller->mode_bits = SPI_CPOL | SPI_CPHA | SPI_CS_HIGH | SPI_LSB_FIRST;
	controller->bits_per_word_mask = SPI_BPW_RANGE_MASK(1, 32);
	controller->transfer_one = transfer_one;
	error = spi_register_controller(controller);
	if (error) {
		spi_controller_put(controller);
		goto no_controller;
	}
	for (i = 0; i < controller->num_chipselect; i++) {
		info.chip_select = i;
		if (!spi_new_device(controller, &info)) {
			error = -ENODEV;
			goto no_device;
		}
	}
	root = debugfs_create_dir("medulla_spi", NULL);
	debugfs_create_u32("transfers", 0644, root, &transfers);
	debugfs_create_u32("bytes", 0644, root, &bytes);
	return 0;

no_device:
	spi_unregister_controller(controller);
no_controller:
	platform_device_unregister(parent);
	return error;
}

static void __exit medulla_spi_exit(void)
{
	debugfs_remove(root);
	spi_unregister_controller(controller);
	platform_device_unregister(parent);
}

module_init(medulla_spi_init);
module_exit(medulla_spi_exit);
MODULE_DESCRIPTION("An SPI controller that answers with what it is sent, for tests");
MODULE_LICENSE("GPL");
