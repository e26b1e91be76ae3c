// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.0;

// What the tests put on the chain. Compiled once, by hand: `contracts.py` says how.

/// An ERC-20 token whose whole supply belongs to whoever made it, and which can be told to misbehave.
contract Token {
    enum Mood {
        honest,
        reverting, // a transfer fails
        silent, // a transfer says yes, moves nothing and logs nothing
        charging // one unit of each transfer goes nowhere, as with tokens that take a fee
    }

    string public constant name = "Test token";
    string public constant symbol = "TEST";
    uint8 public immutable decimals;
    uint256 public totalSupply;
    Mood public mood;
    mapping(address => uint256) public balanceOf;

    event Transfer(address indexed from, address indexed to, uint256 value);

    constructor(uint8 decimals_, uint256 supply) {
        decimals = decimals_;
        totalSupply = supply;
        balanceOf[msg.sender] = supply;
        emit Transfer(address(0), msg.sender, supply);
    }

    function setMood(Mood to) external {
        mood = to;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(to, value);
        return true;
    }

    /// Two transfers, and two logs, in one transaction.
    function transferTwice(address to, uint256 first, uint256 second) external {
        _move(to, first);
        _move(to, second);
    }

    function _move(address to, uint256 value) private {
        require(mood != Mood.reverting, "not in the mood");
        if (mood == Mood.silent) return;
        require(balanceOf[msg.sender] >= value, "balance too low");
        balanceOf[msg.sender] -= value;
        if (mood == Mood.charging) {
            value -= 1;
            totalSupply -= 1;
        }
        balanceOf[to] += value;
        emit Transfer(msg.sender, to, value);
    }
}

/// An account that refuses ether, with a reason if it is given the gas to say it, and takes it when told to.
contract Refuser {
    bool public open;

    function setOpen(bool to) external {
        open = to;
    }

    receive() external payable {
        require(open, "not here");
    }
}

/// Passes ether on: a payment that is in no transaction's `to` and `value`.
contract Forwarder {
    function forward(address payable to) external payable {
        (bool done, ) = to.call{value: msg.value}("");
        require(done, "not taken");
    }
}
