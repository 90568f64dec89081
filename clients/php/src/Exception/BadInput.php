<?php

declare(strict_types=1);

namespace Recado\Exception;

/** A value that cannot be meant. Nothing was sent. */
final class BadInput extends \InvalidArgumentException
{
}
