<?php

declare(strict_types=1);

namespace App\Events;

/** A user has written a note. In Laravel it implements ShouldBroadcast, and the driver `recado` sends it. */
final class NoteCreated
{
    public function __construct(private readonly string $user, private readonly string $text)
    {
    }

    public function broadcastOn(): string
    {
        return "user_{$this->user}";
    }

    public function broadcastAs(): string
    {
        return 'note';
    }

    /** @return array<string, string> */
    public function broadcastWith(): array
    {
        return ['text' => $this->text];
    }
}
