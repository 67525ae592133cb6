"""What the Python tests share: brokers to run against, a raw AMQP client, fixtures."""
