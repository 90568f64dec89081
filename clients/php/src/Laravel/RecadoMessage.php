<?php

declare(strict_types=1);

namespace Recado\Laravel;

/** A notification as a message: `return (new RecadoMessage('invoice.paid', [['id' => 3]]))->options(['ttl' => 3600]);` */
final class RecadoMessage
{
    /** @var list<string|int> */
    public array $rooms = [];
    /** @var array<string, mixed> */
    public array $options = [];

    /** @param mixed $args the list of arguments; any other value is the one argument */
    public function __construct(public readonly string $event, public readonly mixed $args = [null])
    {
    }

    /** Other rooms than the notified one's. */
    public function to(string|int ...$rooms): self
    {
        $this->rooms = array_values($rooms);
        return $this;
    }

    /** @param array<string, mixed> $options those of `/send` by their names */
    public function options(array $options): self
    {
        $this->options = $options;
        return $this;
    }
}
